"""Weights that are damaged, NaN or not those of their checksum are named."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from lidar_lightning import UDLM, DPOModule, StableDiffusion, assets
from lidar_lightning.assets import asset_path, check_shipped
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.backbones.loading import load_network
from tests.conftest import tiny
from tests.pipelines import build


def flip(path, place=0.5):
    """Changes one bit of a file."""
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x10
    path.write_bytes(data)


def spoil(path, name="backbone.output_layer.linear.weight"):
    state = load_file(path)
    key = name if name in state else sorted(state)[0]
    state[key].view(-1)[0] = float("nan")
    save_file(state, path, {"format": "pt"})
    return key


def test_saved_weights_know_their_checksum(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path / "model")
    loaded = UDLM.from_pretrained(tmp_path / "model")
    for one, other in zip(model.parameters(), loaded.parameters(), strict=True):
        assert torch.equal(one, other)
    flip(tmp_path / "model" / "model.safetensors", 0.9)
    with pytest.raises(ValueError, match=r"model\.safetensors are damaged, their checksum does not match"):
        UDLM.from_pretrained(tmp_path / "model")


def test_weights_without_a_checksum_load_unless_they_are_nan(tmp_path):
    tiny().save_pretrained(tmp_path / "model")
    path = tmp_path / "model" / "model.safetensors"
    save_file(load_file(path), path, {"format": "pt"})
    UDLM.from_pretrained(tmp_path / "model")
    name = spoil(path)
    with pytest.raises(ValueError, match=f"NaN or infinite weights in 1 of .* {name}"):
        UDLM.from_pretrained(tmp_path / "model")


def test_shipped_weights_are_those_of_their_checksums(tmp_path, monkeypatch):
    lines = (assets.ASSETS / "SHA256SUMS").read_text().splitlines()
    shipped = sorted(str(path.relative_to(assets.ASSETS)) for path in assets.ASSETS.rglob("*.safetensors"))
    assert sorted(line.split(maxsplit=1)[1] for line in lines) == shipped
    for name in {path.split("/")[0] for path in shipped if "/" in path}:
        assert asset_path(name)
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "udlm-qm9-small").mkdir(exist_ok=True)
        (tmp_path / "udlm-qm9-small" / name).write_bytes((assets.ASSETS / "udlm-qm9-small" / name).read_bytes())
    (tmp_path / "SHA256SUMS").write_text("\n".join(line for line in lines if "udlm-qm9-small" in line))
    flip(tmp_path / "udlm-qm9-small" / "model.safetensors")
    monkeypatch.setattr(assets, "ASSETS", tmp_path)
    check_shipped.cache_clear()
    with pytest.raises(ValueError, match=r"model\.safetensors, which ships with lidar-lightning, is damaged"):
        UDLM.from_pretrained("udlm-qm9-small")


def test_weights_of_pipelines_and_their_lora_are_finite(tmp_path):
    build("StableDiffusion").save_pretrained(tmp_path / "pipe")
    lora = tmp_path / "lora"
    DPOModule(StableDiffusion.from_pretrained(tmp_path / "pipe"), lora=LoRA(2)).backbone.export_lora(lora)
    load = {"lora": {"style": str(lora)}}
    StableDiffusion.from_pretrained(tmp_path / "pipe", **load)
    path = tmp_path / "pipe" / "unet" / "diffusion_pytorch_model.safetensors"
    whole = path.read_bytes()
    name = spoil(path)
    with pytest.raises(ValueError, match=f"the unet of .* NaN or infinite weights in 1 of .* e.g. {name}"):
        StableDiffusion.from_pretrained(tmp_path / "pipe")
    with pytest.raises(ValueError, match=f"StableDiffusionPipeline's unet: the file holds NaN .* e.g. {name}"):
        load_network(build("StableDiffusion"), "unet", str(path))
    path.write_bytes(whole)
    spoil(lora / "pytorch_lora_weights.safetensors")
    with pytest.raises(ValueError, match="the LoRA at .* it holds NaN or infinite weights"):
        StableDiffusion.from_pretrained(tmp_path / "pipe", **load)
