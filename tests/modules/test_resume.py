"""A run that was killed in the middle of an epoch and goes on ends at the weights of one that was not."""

import lightning as L
import pandas as pd
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint

from datamodules import PreferenceDataModule, PromptDataModule, QM9DataModule, RolloutDataModule
from datamodules.order import EpochLoader
from lidar_lightning import DPOModule, PretrainModule, RewardTuningModule, ValueModule
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.utils.pictures import save_png
from tests.conftest import tiny
from tests.pictures import BRIGHTNESS, backbone

STEPS = 8


class KilledError(Exception):
    pass


class Kill(L.Callback):
    """Ends a run two batches after the checkpoint, so that what it did since then is lost."""

    def __init__(self, batch):
        self.batch = batch

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if trainer.fit_loop.epoch_loop.total_batch_idx == self.batch:
            raise KilledError


def run(build, folder, kill=None, resume=None, seed=0, average=False, steps=STEPS, **options):
    """The trained weights of a run of `build`'s module on its data."""
    module, data = build()
    L.seed_everything(seed, verbose=False)
    callbacks = [ModelCheckpoint(folder, save_last=True, every_n_train_steps=3, enable_version_counter=False)]
    callbacks += [EMAWeightAveraging(decay=0.9)] * average + [Kill(kill)] * bool(kill)
    trainer = L.Trainer(
        max_steps=steps, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        limit_val_batches=0, callbacks=callbacks, **options,
    )  # fmt: skip
    if kill:
        with pytest.raises(KilledError):
            trainer.fit(module, data)
    else:
        trainer.fit(module, data, ckpt_path=resume)
    return [p.detach().clone() for p in module.parameters() if p.requires_grad]


def check(build, tmp_path, kill=5, **options):
    whole = run(build, tmp_path / "whole", **options)
    run(build, tmp_path / "killed", kill=kill, **options)
    # The seed of the process that goes on does not matter: that of the run stands in the checkpoint.
    resumed = run(build, tmp_path / "killed", resume=tmp_path / "killed" / "last.ckpt", seed=7, **options)
    for one, two in zip(whole, resumed, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("batch_size", [4, 8, 13], ids=["mid-epoch", "later epoch", "end of an epoch"])
def test_dpo_on_molecules(tmp_path, bank, carbon_reward, batch_size):
    bank.save(tmp_path / "bank.safetensors")

    def build():
        data = PreferenceDataModule(str(tmp_path / "bank.safetensors"), carbon_reward, pairs=42, batch_size=batch_size)
        return DPOModule(tiny(), beta=1.0, lora=LoRA(4, dropout=0.3), lr=3e-3, draws=2, warmup=2), data

    check(build, tmp_path)


def test_a_run_that_goes_on_again_and_again_at_the_ends_of_epochs(tmp_path, bank, carbon_reward):
    bank.save(tmp_path / "bank.safetensors")

    def build():
        data = PreferenceDataModule(str(tmp_path / "bank.safetensors"), carbon_reward, pairs=42, batch_size=100)
        return DPOModule(tiny(), beta=1.0, lora=LoRA(4), lr=3e-3, draws=2, warmup=2), data

    whole = run(build, tmp_path / "whole", steps=15)
    for steps in (3, 6, 9, 15):
        last = tmp_path / "often" / "last.ckpt"
        often = run(build, tmp_path / "often", resume=last if last.exists() else None, steps=steps)
    for one, two in zip(whole, often, strict=True):
        torch.testing.assert_close(two, one, rtol=1e-5, atol=1e-7)
    ends = [torch.load(tmp_path / name / "last.ckpt", weights_only=True)["loops"] for name in ("whole", "often")]
    assert ends[0]["fit_loop"]["epoch_progress"] == ends[1]["fit_loop"]["epoch_progress"]


def test_another_seed_is_another_run(tmp_path):
    def build():
        module = RewardTuningModule(backbone(), BRIGHTNESS, "draft", 2, 1, lora=LoRA(2), lr=1e-2, warmup=0)
        return module, PromptDataModule(["a cat", "dogs"], samples=6, batch_size=2)

    one, two = (run(build, tmp_path / str(seed), seed=seed) for seed in (0, 7))
    assert any(not torch.allclose(a, b, atol=1e-4) for a, b in zip(one, two, strict=True))


def test_dpo_with_accumulated_gradients(tmp_path, bank, carbon_reward):
    bank.save(tmp_path / "bank.safetensors")

    def build():
        data = PreferenceDataModule(str(tmp_path / "bank.safetensors"), carbon_reward, pairs=42, batch_size=4)
        return DPOModule(tiny(), beta=1.0, lora=LoRA(4), lr=3e-3, draws=1, warmup=2, decay=0.5), data

    check(build, tmp_path, kill=8, accumulate_grad_batches=2)


def test_dpo_on_pictures(tmp_path):
    for i in range(6):
        save_png(tmp_path / "pairs" / f"{i}.png", torch.full((3, 40, 32), i / 5))
    rows = [
        {"prompt": p, "chosen": f"{i}.png", "rejected": f"{5 - i}.png"} for i in (3, 4, 5) for p in ("a cat", "dogs")
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "pairs" / "pairs.csv", index=False)

    def build():
        data = PreferenceDataModule(str(tmp_path / "pairs"), batch_size=1, validation=0.0)
        return DPOModule(backbone(), beta=100.0, lora=LoRA(2), lr=1e-2, draws=1, warmup=1), data

    check(build, tmp_path)


def test_pretraining(tmp_path):
    path = tmp_path / "molecules.txt"
    path.write_text("\n".join("C" * k + "O" * j for k in range(1, 8) for j in range(8)))

    def build():
        data = QM9DataModule(str(path), length=12, batch_size=10, validation=10)
        return PretrainModule(tiny(), lr=1e-2, samples=0), data

    check(build, tmp_path, average=True, gradient_clip_val=1.0)


@pytest.mark.parametrize("method", ["refl", "draft"])
def test_reward_tuning(tmp_path, method):
    def build():
        module = RewardTuningModule(backbone(), BRIGHTNESS, method, 3, 2, lora=LoRA(2), lr=1e-2, warmup=0)
        return module, PromptDataModule(["a cat", "dogs"], samples=6, batch_size=2)

    check(build, tmp_path)


def test_learned_value(tmp_path, carbon_reward):
    def build():
        data = RolloutDataModule(tiny(), carbon_reward, samples=10, steps=5, batch_size=8)
        return ValueModule((12,), 35, width=8, lr=1e-2), data

    check(build, tmp_path)


class Seen(L.LightningModule):
    """Remembers epoch and batch of every step."""

    def __init__(self):
        super().__init__()
        self.layer, self.seen = torch.nn.Linear(1, 1), []

    def training_step(self, batch, batch_idx):
        self.seen.append((self.trainer.current_epoch, batch.tolist()))
        return self.layer(torch.ones(1)).sum()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


class Numbers(L.LightningDataModule):
    def __init__(self, workers):
        super().__init__()
        self.workers = workers

    def train_dataloader(self):
        return EpochLoader(torch.arange(10), 2, 3, self.trainer, num_workers=self.workers)


@pytest.mark.parametrize("stop", [2, 5, 6, 10])
@pytest.mark.parametrize("options", [{}, {"limit_train_batches": 3}], ids=["whole epochs", "short epochs"])
@pytest.mark.parametrize("workers", [0, 1])
def test_batches_go_on_where_a_run_stopped(tmp_path, workers, options, stop):
    """In the middle of an epoch, at its end, and with a worker that fetches ahead."""

    def fit(steps, resume=None):
        module = Seen()
        saving = ModelCheckpoint(tmp_path / str(steps), save_last=True, every_n_train_steps=steps)
        L.Trainer(
            max_steps=steps, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
            callbacks=[saving], **options,
        ).fit(module, Numbers(workers), ckpt_path=resume)  # fmt: skip
        return module.seen

    whole = fit(11)
    length = options.get("limit_train_batches", 5)
    assert [epoch for epoch, _ in whole] == [step // length for step in range(11)]
    first, second = ([item for epoch, batch in whole if epoch == e for item in batch] for e in (0, 1))
    assert len(set(first)) == len(set(second)) == 2 * length and first != second
    assert fit(stop) + fit(11, tmp_path / str(stop) / "last.ckpt") == whole


def test_other_data_than_those_of_the_checkpoint_are_named():
    loader = EpochLoader(range(10), 2, 0)
    with pytest.warns(UserWarning, match="the checkpoint was made with {'items': 9, .*now {'items': 10"):
        loader.load_state_dict({"items": 9, "batch_size": 2, "seed": 0})
