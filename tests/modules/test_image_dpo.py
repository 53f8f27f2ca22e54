"""DPO of image models: pairs of pictures and banks, cached latents, exported LoRA, prediction from the checkpoint."""

import diffusers
import lightning as L
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from datamodules import PreferenceDataModule, PromptDataModule
from datamodules.picture_pairs import download_pairs
from lidar_lightning import BankStore, DPOModule, LiDARModule, Lookahead, StableDiffusion
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.rewards import CallableReward
from lidar_lightning.sampling import sample
from lidar_lightning.utils.pictures import save_png, to_png
from lidar_lightning.utils.seeding import Generators
from tests.pipelines import build

REWARD = CallableReward(lambda samples, prompts: samples.mean((1, 2, 3)), name="brightness", modality="image")


def backbone():
    return StableDiffusion(build("StableDiffusion"), guidance_scale=3.0, name="tiny")


def fit(module, data, steps=3, **options):
    trainer = L.Trainer(
        max_steps=steps, logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu",
        enable_checkpointing=False, limit_val_batches=0, **options,
    )  # fmt: skip
    trainer.fit(module, data)
    return trainer


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        save_png(tmp_path / "pairs" / f"{i}.png", torch.full((3, 40, 32), i / 5))
    rows = [
        {"prompt": p, "chosen": f"{i}.png", "rejected": f"{5 - i}.png"} for i in (3, 4, 5) for p in ("a cat", "dogs")
    ]
    pd.DataFrame(rows).to_csv(tmp_path / "pairs" / "pairs.csv", index=False)
    return tmp_path / "pairs"


def draw(model):
    return sample(model, model.solver(2), Generators([0]), model.encode(["a cat"])).samples


def test_fit_on_pictures_export_and_predict(folder, tmp_path):
    plain, model = draw(backbone()), backbone()
    data = PreferenceDataModule(str(folder), batch_size=3, validation=0.0)
    module = DPOModule(model, beta=5000.0, lora=LoRA(2, 4), draws=2, lr=1e-2, warmup=1, export=str(tmp_path / "lora"))
    trainer = fit(module, data)
    trained = draw(model)
    assert not torch.allclose(trained, plain, atol=1e-3)
    (cache,) = folder.glob("latents-*")
    assert len(list(cache.iterdir())) == 6 + 2
    item = data.training[0]
    assert item["chosen"].shape == (4, 16, 16) and list(item["condition"]) == ["embeds"]

    stock = build("StableDiffusion")
    stock.load_lora_weights(tmp_path / "lora")
    options = {"num_inference_steps": 2, "guidance_scale": 3.0, "output_type": "latent"}
    torch.testing.assert_close(
        stock("a cat", generator=Generators([0]).streams, **options).images, trained, rtol=1e-4, atol=1e-4
    )

    trainer.save_checkpoint(tmp_path / "dpo.ckpt", weights_only=False)
    state = torch.load(tmp_path / "dpo.ckpt", weights_only=False)["state_dict"]
    assert state and all("lora_" in name for name in state)
    lidar = LiDARModule(backbone(), REWARD, Lookahead(2, 4), steps=2, ess=0.1)
    predictor = L.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False, accelerator="cpu")
    predictor.predict(lidar, PromptDataModule(["a cat"], 2, 2), ckpt_path=tmp_path / "dpo.ckpt")
    torch.testing.assert_close(draw(lidar.backbone), trained)


def test_cache_is_used(folder, monkeypatch):
    fit(DPOModule(backbone(), lora=LoRA(2)), PreferenceDataModule(str(folder), batch_size=3), steps=1)
    again = backbone()
    monkeypatch.setattr(again, "x0_of", lambda _: pytest.fail("encoded again"))
    monkeypatch.setattr(again, "_encode", lambda _: pytest.fail("encoded again"))
    fit(DPOModule(again, lora=LoRA(2)), PreferenceDataModule(str(folder), batch_size=3), steps=1)


def test_full_fine_tuning_keeps_a_frozen_network(folder):
    model = backbone()
    module = DPOModule(model, lora=None, lr=1e-3, warmup=1)
    (reference,) = module._reference
    assert reference.pipe.vae is model.pipe.vae and reference.network is not model.network
    before = draw(reference)
    fit(module, PreferenceDataModule(str(folder), batch_size=3))
    assert torch.equal(draw(reference), before) and not torch.allclose(draw(model), before, atol=1e-4)


def test_pairs_of_a_bank(tmp_path):
    model = backbone()
    bank = Lookahead(2, 8).bank(model, "a cat", 0, [REWARD], BankStore(tmp_path))
    data = PreferenceDataModule(str(tmp_path), REWARD, pairs=8, batch_size=4, validation=0.0)
    module = DPOModule(model, lora=LoRA(2))
    fit(module, data, steps=2)
    assert data.training[0]["chosen"].shape == bank.samples.shape[1:]


def test_unreadable_picture_is_named(folder):
    (folder / "3.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"3\.png cannot be read"):
        fit(DPOModule(backbone(), lora=LoRA(2)), PreferenceDataModule(str(folder), batch_size=3))


def test_export_needs_adapters_of_an_image_model(udlm, tmp_path):
    with pytest.raises(ValueError, match="only LoRA of image models"):
        DPOModule(udlm, export=str(tmp_path))
    with pytest.raises(ValueError, match="holds no adapters"):
        backbone().export_lora(tmp_path)
    with pytest.raises(ValueError, match="already holds trained adapters"):
        DPOModule(DPOModule(backbone()).backbone)


def test_hub_pairs_are_written_once_and_go_on(tmp_path, monkeypatch):
    jpg = [to_png(torch.full((3, 8, 8), i / 9)) for i in range(10)]
    labels = [1, 0.5, 0, 1, 0]
    rows = [
        {"caption": f"p{i}", "jpg_0": jpg[2 * i], "jpg_1": jpg[2 * i + 1], "label_0": label}
        for i, label in enumerate(labels)
    ]
    asked = []

    def load_dataset(name, split, streaming, revision=None):
        asked.append((name, split, streaming))
        return iter(rows)

    monkeypatch.setattr("datasets.load_dataset", load_dataset)
    download_pairs("some/pairs", tmp_path, 2)
    download_pairs("some/pairs", tmp_path, 2)
    table = download_pairs("some/pairs", tmp_path, 4)
    assert asked == [("some/pairs", "train", True)] * 2
    frame = pd.read_csv(table)
    assert list(frame["prompt"]) == ["p0", "p2", "p3", "p4"]
    assert [(tmp_path / name).read_bytes() for name in frame["chosen"]] == [jpg[0], jpg[5], jpg[6], jpg[9]]
    rows[0] = {"caption": "x"}
    with pytest.raises(ValueError, match="cannot get preference pairs from 'some/pairs'"):
        download_pairs("some/pairs", tmp_path / "other", 2)


def test_stock_diffusers_file_has_its_prefix(folder, tmp_path):
    module = DPOModule(backbone(), lora=LoRA(2), export=str(tmp_path / "lora"))
    fit(module, PreferenceDataModule(str(folder), batch_size=3), steps=1)
    state = load_file(tmp_path / "lora" / "pytorch_lora_weights.safetensors")
    assert all(name.startswith("unet.") for name in state)
    assert isinstance(module.backbone.pipe, diffusers.StableDiffusionPipeline)
