"""Checkpoints that are damaged, NaN or incomplete are named; a folder has one last.ckpt."""

import lightning as L
import pytest
import torch
import yaml
from lightning.pytorch.callbacks import ModelCheckpoint

from datamodules import PreferenceDataModule, PromptDataModule
from lidar_lightning import DPOModule, LiDARModule, ValueModule, cli
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.modules.checkpoints import save_last
from recipes import qm9_value
from tests.conftest import tiny
from tests.utils.test_weights import flip

QUIET = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "accelerator": "cpu"}


@pytest.fixture
def trained(tmp_path, bank, carbon_reward):
    """The checkpoint of a short DPO, and what trains and predicts."""
    bank.save(tmp_path / "bank.safetensors")
    data = PreferenceDataModule(str(tmp_path / "bank.safetensors"), carbon_reward, pairs=32, batch_size=8)
    trainer = L.Trainer(max_steps=2, callbacks=[save_last(tmp_path, every_n_train_steps=2)], **QUIET)
    trainer.fit(DPOModule(tiny(), lora=LoRA(4), draws=1), data)
    return tmp_path / "last.ckpt"


def predict(path, reward):
    L.Trainer(**QUIET).predict(LiDARModule(tiny(), reward, None, 2), PromptDataModule(samples=2), ckpt_path=path)


def fit_again(path, reward):
    data = PreferenceDataModule(str(path.parent / "bank.safetensors"), reward, pairs=32, batch_size=8)
    trainer = L.Trainer(max_steps=4, enable_checkpointing=False, **QUIET)
    trainer.fit(DPOModule(tiny(), lora=LoRA(4), draws=1), data, ckpt_path=path)


@pytest.mark.parametrize("use", [predict, fit_again])
def test_damaged_checkpoints_are_named(trained, carbon_reward, use):
    whole = trained.read_bytes()
    use(trained, carbon_reward)
    place = whole.index(torch.load(trained)["state_dict"].popitem()[1].numpy().tobytes()) / len(whole)
    flip(trained, place)
    with pytest.raises(ValueError, match=r"last\.ckpt cannot be read .* damaged"):
        use(trained, carbon_reward)

    trained.write_bytes(whole)
    checkpoint = torch.load(trained, weights_only=True)
    names = list(checkpoint["state_dict"])
    checkpoint["state_dict"][names[3]].view(-1)[0] = float("inf")
    torch.save(checkpoint, trained)
    with pytest.raises(
        ValueError, match=f"last.ckpt holds NaN or infinite weights in 1 of 16 tensors, e.g. {names[3]}"
    ):
        use(trained, carbon_reward)

    trained.write_bytes(whole)
    checkpoint = torch.load(trained, weights_only=True)
    checkpoint["state_dict"] = {name: checkpoint["state_dict"][name] for name in names[:2]}
    torch.save(checkpoint, trained)
    with pytest.raises(ValueError, match=f"incomplete.* 14 are missing, e.g. {names[2]}"):
        use(trained, carbon_reward)


def test_checkpoints_of_before_load(trained, carbon_reward):
    """They have neither a seed nor settings."""
    checkpoint = torch.load(trained, weights_only=True)
    del checkpoint["seed"], checkpoint["settings"]
    torch.save(checkpoint, trained)
    predict(trained, carbon_reward)
    fit_again(trained, carbon_reward)


def test_a_run_goes_on_with_its_settings(trained, carbon_reward):
    data = PreferenceDataModule(str(trained.parent / "bank.safetensors"), carbon_reward, pairs=32, batch_size=8)
    trainer = L.Trainer(max_steps=4, enable_checkpointing=False, **QUIET)
    with pytest.raises(ValueError, match="lr was 0.0003 and is now 0.1 and beta was 0.2 and is now 0.5: set them back"):
        trainer.fit(DPOModule(tiny(), 0.5, LoRA(4), 0.1, draws=1), data, ckpt_path=trained)


def test_damaged_value(tmp_path):
    module = ValueModule((4,), 35, width=8)
    trainer = L.Trainer(enable_checkpointing=False, max_steps=0, **QUIET)
    trainer.strategy.connect(module)
    trainer.save_checkpoint(tmp_path / "value.ckpt")
    ValueModule.from_checkpoint(str(tmp_path / "value.ckpt"))
    torch.nn.init.constant_(module.head[0].bias, float("nan"))
    trainer.save_checkpoint(tmp_path / "value.ckpt")
    with pytest.raises(ValueError, match="NaN or infinite weights in 1 of 7 tensors, e.g. head.0.bias"):
        ValueModule.from_checkpoint(str(tmp_path / "value.ckpt"))


def configuration(tmp_path, steps=2, **saving):
    """A YAML of a small DPO with lightning's own ModelCheckpoint."""
    tiny().save_pretrained(tmp_path / "model")
    reward = {"class_path": "lidar_lightning.rewards.CallableReward", "init_args": {"path": "tests.conftest:carbons"}}
    reward["init_args"]["name"] = "carbons"
    config = {
        "seed_everything": 0,
        "model": {
            "class_path": "lidar_lightning.DPOModule",
            "init_args": {
                "backbone": {
                    "class_path": "lidar_lightning.UDLM.from_pretrained",
                    "init_args": {"pretrained_model_name_or_path": str(tmp_path / "model")},
                },
                "draws": 1,
            },
        },
        "data": {
            "class_path": "datamodules.PreferenceDataModule",
            "init_args": {
                "path": str(tmp_path / "bank.safetensors"), "reward": reward, "pairs": 32, "batch_size": 8,
                "validation": 0.0,
            },
        },
        "trainer": {
            "max_steps": steps,
            **QUIET,
            "callbacks": [
                {
                    "class_path": "lightning.pytorch.callbacks.ModelCheckpoint",
                    "init_args": {"dirpath": str(tmp_path / "out"), "save_last": True, **saving},
                }
            ],
        },
    }  # fmt: skip
    path = tmp_path / f"fit-{steps}.yaml"
    path.write_text(yaml.safe_dump(config))
    return str(path)


def step_of(path):
    return torch.load(path, weights_only=True)["global_step"]


def test_fit_twice(tmp_path, bank, capsys):
    bank.save(tmp_path / "bank.safetensors")
    out = tmp_path / "out"
    short = configuration(tmp_path, every_n_train_steps=2)
    longer = configuration(tmp_path, steps=4, every_n_train_steps=4)
    assert cli.main(["fit", "-c", short]) == 0 and step_of(out / "last.ckpt") == 2
    before = (out / "last.ckpt").read_bytes()

    assert cli.main(["fit", "-c", longer]) == 2
    error = capsys.readouterr().err
    assert f"{out}/last.ckpt is of an earlier run" in error and "--ckpt_path last" in error
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "other.ckpt").write_bytes(before)
    assert cli.main(["fit", "-c", longer, "--ckpt_path", str(tmp_path / "elsewhere" / "other.ckpt")]) == 2
    assert (out / "last.ckpt").read_bytes() == before

    # The saving interval changed, so that lightning alone would write last-v1.ckpt.
    assert cli.main(["fit", "-c", longer, "--ckpt_path", "last"]) == 0
    assert [path.name for path in out.glob("last*")] == ["last.ckpt"] and step_of(out / "last.ckpt") == 4
    assert cli.main(["fit", "-c", longer, "--ckpt_path", str(out / "last.ckpt")]) == 0
    assert [path.name for path in out.glob("last*")] == ["last.ckpt"]

    (out / "last.ckpt").write_bytes(before[: len(before) // 2])
    assert cli.main(["fit", "-c", longer, "--ckpt_path", "last"]) == 2
    assert "last.ckpt cannot be read" in capsys.readouterr().err


def test_a_first_run_may_be_told_to_go_on(tmp_path, bank):
    bank.save(tmp_path / "bank.safetensors")
    assert cli.main(["fit", "-c", configuration(tmp_path), "--ckpt_path", "last"]) == 0
    assert step_of(tmp_path / "out" / "last.ckpt") == 2


def test_recipe_run_twice_returns_what_it_trained(tmp_path):
    tiny().save_pretrained(tmp_path / "model")
    arguments = {"out": str(tmp_path / "out"), "model": str(tmp_path / "model"), "samples": 4, "steps": 3}
    first = qm9_value.main(**arguments, epochs=1)
    assert torch.load(first, weights_only=True)["epoch"] == 0
    second = qm9_value.main(**arguments, epochs=3)
    assert first == second and torch.load(second, weights_only=True)["epoch"] == 2
    assert not list((tmp_path / "out").glob("last-v*"))


def test_every_recipe_keeps_one_last_checkpoint():
    assert isinstance(save_last("x", every_n_train_steps=3), ModelCheckpoint)
    assert not save_last("x")._enable_version_counter
