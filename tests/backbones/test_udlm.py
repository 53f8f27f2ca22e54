import json
import math
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from lidar_lightning import UDLM
from lidar_lightning.sampling import sample
from lidar_lightning.utils.seeding import Generators
from tests.conftest import tiny


def published_layout(vocab, dim, cond, blocks, heads):
    """Names and shapes of `kuleshov-group/udlm-*`, from the published modelling code (models/hf/modeling_udlm.py)."""
    layout = {
        "vocab_embed.embedding": (vocab, dim),
        "sigma_map.mlp.0.weight": (cond, 256),
        "sigma_map.mlp.0.bias": (cond,),
        "sigma_map.mlp.2.weight": (cond, cond),
        "sigma_map.mlp.2.bias": (cond,),
        "rotary_emb.inv_freq": (dim // heads // 2,),
        "output_layer.norm_final.weight": (dim,),
        "output_layer.linear.weight": (vocab, dim),
        "output_layer.linear.bias": (vocab,),
        "output_layer.adaLN_modulation.weight": (2 * dim, cond),
        "output_layer.adaLN_modulation.bias": (2 * dim,),
    }
    for i in range(blocks):
        layout |= {
            f"blocks.{i}.norm1.weight": (dim,),
            f"blocks.{i}.attn_qkv.weight": (3 * dim, dim),
            f"blocks.{i}.attn_out.weight": (dim, dim),
            f"blocks.{i}.norm2.weight": (dim,),
            f"blocks.{i}.mlp.0.weight": (4 * dim, dim),
            f"blocks.{i}.mlp.0.bias": (4 * dim,),
            f"blocks.{i}.mlp.2.weight": (dim, 4 * dim),
            f"blocks.{i}.mlp.2.bias": (dim,),
            f"blocks.{i}.adaLN_modulation.weight": (6 * dim, cond),
            f"blocks.{i}.adaLN_modulation.bias": (6 * dim,),
        }
    return {f"backbone.{name}": shape for name, shape in layout.items()}


PUBLISHED_CONFIG = {
    "architectures": ["UDLM"], "auto_map": {"AutoModelForMaskedLM": "kuleshov-group/udlm-qm9--modeling_udlm.UDLM"},
    "cfg": False, "cfg_num_classes": -1, "cond_dim": 128, "dropout": 0.1, "hidden_dim": 768, "model_length": 32,
    "model_type": "udlm", "n_blocks": 12, "n_heads": 12, "return_dict": False, "time_conditioning": True,
    "torch_dtype": "float32", "transformers_version": "4.38.2", "vocab_size": 35,
}  # fmt: skip


def test_defaults_are_the_published_architecture():
    with torch.device("meta"):
        state = UDLM().state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == published_layout(35, 768, 128, 12, 12)


def published_folder(path, **changes):
    """A folder as the hub has it, of a smaller width and with random weights."""
    path.mkdir(exist_ok=True)
    config = {**PUBLISHED_CONFIG, "hidden_dim": 48, "cond_dim": 16, "n_blocks": 3, "n_heads": 4, **changes}
    (path / "config.json").write_text(json.dumps(config))
    shapes = published_layout(35, 48, 16, 3, 4)
    state = {name: torch.randn(shape) * 0.2 for name, shape in shapes.items()}
    state["backbone.rotary_emb.inv_freq"] = 1.0 / (10_000 ** (torch.arange(0, 12, 2).float() / 12))
    save_file(state, path / "model.safetensors")
    return state


def test_published_checkpoint_loads_with_every_key_used(tmp_path):
    state = published_folder(tmp_path / "hub")
    loaded = UDLM.from_pretrained(tmp_path / "hub").state_dict()
    assert loaded.keys() == state.keys() and all(torch.equal(loaded[name], value) for name, value in state.items())


@pytest.mark.parametrize("change", ["missing", "extra", "shape"])
def test_incomplete_mapping_is_refused(tmp_path, change):
    state = published_folder(tmp_path / "hub")
    name = "backbone.blocks.1.mlp.0.weight"
    if change == "missing":
        del state[name]
    elif change == "extra":
        state["backbone.cond_map.embedding_table.weight"] = torch.zeros(3, 16)
    else:
        state[name] = state[name][:-1]
    save_file(state, tmp_path / "hub" / "model.safetensors")
    with pytest.raises(ValueError, match="do not fit this architecture"):
        UDLM.from_pretrained(tmp_path / "hub")


def published_forward(state, tokens, sigma, heads):
    """The published network, written again from its formulas with einsum and explicit rotation matrices."""
    p = {name.removeprefix("backbone."): value.double() for name, value in state.items()}
    dim = p["vocab_embed.embedding"].shape[1]
    half, size, length = 128, dim // heads, tokens.shape[1]
    frequencies = torch.tensor([10_000 ** (-k / half) for k in range(half)]).double()
    features = torch.cat([torch.cos(sigma[:, None] * frequencies), torch.sin(sigma[:, None] * frequencies)], 1)
    hidden = F.silu(features @ p["sigma_map.mlp.0.weight"].T + p["sigma_map.mlp.0.bias"])
    c = F.silu(hidden @ p["sigma_map.mlp.2.weight"].T + p["sigma_map.mlp.2.bias"])
    rotation = torch.zeros(length, size, size).double()
    for position in range(length):
        for k in range(size // 2):
            angle = position / 10_000 ** (2 * k / size)
            a, b = k, k + size // 2
            rotation[position, a, a] = rotation[position, b, b] = math.cos(angle)
            rotation[position, a, b], rotation[position, b, a] = -math.sin(angle), math.sin(angle)

    def norm(x, gain):
        return (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt() * gain

    x = p["vocab_embed.embedding"][tokens]
    for i in range(sum(name.endswith("attn_out.weight") for name in p)):
        b = {name.removeprefix(f"blocks.{i}."): value for name, value in p.items() if name.startswith(f"blocks.{i}.")}
        modulation = (c @ b["adaLN_modulation.weight"].T + b["adaLN_modulation.bias"])[:, None]
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.split(dim, -1)
        qkv = (norm(x, b["norm1.weight"]) * (1 + scale1) + shift1) @ b["attn_qkv.weight"].T
        q, k, v = (part.unflatten(-1, (heads, size)) for part in qkv.split(dim, -1))
        q, k = (torch.einsum("lij,blhj->blhi", rotation, part) for part in (q, k))
        weights = torch.einsum("blhi,bmhi->bhlm", q, k).div(math.sqrt(size)).softmax(-1)
        attended = torch.einsum("bhlm,bmhi->blhi", weights, v).flatten(2)
        x = x + gate1 * (attended @ b["attn_out.weight"].T)
        y = (norm(x, b["norm2.weight"]) * (1 + scale2) + shift2) @ b["mlp.0.weight"].T + b["mlp.0.bias"]
        y = 0.5 * y * (1 + torch.tanh(math.sqrt(2 / math.pi) * (y + 0.044715 * y**3)))
        x = x + gate2 * (y @ b["mlp.2.weight"].T + b["mlp.2.bias"])
    shift, scale = (c @ p["output_layer.adaLN_modulation.weight"].T + p["output_layer.adaLN_modulation.bias"])[
        :, None
    ].split(dim, -1)
    x = norm(x, p["output_layer.norm_final.weight"]) * (1 + scale) + shift
    return (x @ p["output_layer.linear.weight"].T + p["output_layer.linear.bias"]).log_softmax(-1)


def test_forward_agrees_with_the_published_formulas(tmp_path):
    state = published_folder(tmp_path / "hub")
    model = UDLM.from_pretrained(tmp_path / "hub")
    tokens, t = torch.randint(35, (5, 32)), torch.linspace(0.05, 1, 5)
    expected = published_forward(state, tokens, -torch.log(1 - (1 - 1e-3) * t.double()), heads=4)
    with torch.no_grad():
        torch.testing.assert_close(model.log_probs(tokens, t).double(), expected, atol=2e-4, rtol=1e-3)


def test_save_and_load_round_trip(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path / "model")
    again = UDLM.from_pretrained(tmp_path / "model")
    assert again.name == "tiny" and again.fingerprint() == model.fingerprint() and not again.training
    assert set(load_file(tmp_path / "model" / "model.safetensors")) == set(model.state_dict())


def test_half_precision_weights_load_as_float32(tmp_path):
    state = published_folder(tmp_path / "hub")
    save_file({name: value.half() for name, value in state.items()}, tmp_path / "hub" / "model.safetensors")
    model = UDLM.from_pretrained(tmp_path / "hub")
    assert {value.dtype for value in model.state_dict().values()} == {torch.float32}


def test_fingerprint_follows_the_weights():
    model = tiny()
    before = model.fingerprint()
    with torch.no_grad():
        next(model.parameters()).view(-1)[0] += 1
    assert model.fingerprint() != before != tiny(seed=1).fingerprint()


@pytest.mark.parametrize("source", ["nowhere", "nobody/nothing"])
def test_missing_checkpoints_are_named(source):
    with pytest.raises(ValueError, match=f"no UDLM checkpoint at '{source}'"):
        UDLM.from_pretrained(source)


def test_damaged_checkpoints_are_named(tmp_path):
    published_folder(tmp_path / "hub")
    path = tmp_path / "hub" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="hub"):
        UDLM.from_pretrained(tmp_path / "hub")
    path.unlink()
    with pytest.raises(ValueError, match="hub"):
        UDLM.from_pretrained(tmp_path / "hub")
    shutil.rmtree(tmp_path / "hub")
    published_folder(tmp_path / "hub", cfg=True)
    with pytest.raises(ValueError, match="class-conditional"):
        UDLM.from_pretrained(tmp_path / "hub")


def test_corruption_keeps_the_right_share():
    model, x0 = tiny(length=200), torch.zeros(500, 200, dtype=torch.int64)
    t = torch.full((500,), 0.4)
    alpha = model.schedule(t)[0][0].item()
    counts = torch.bincount(model.corrupt(x0, t, torch.Generator().manual_seed(0)).flatten(), minlength=35) / 1e5
    assert counts[0].item() == pytest.approx(alpha + (1 - alpha) / 35, abs=0.006)
    np.testing.assert_allclose(counts[1:], (1 - alpha) / 35, atol=0.002)


def test_samples_do_not_depend_on_the_batch():
    model = tiny()
    whole = sample(model, model.solver(8), Generators(range(10)), None)
    part = sample(model, model.solver(8), Generators(range(3, 7)), None)
    assert torch.equal(whole.samples[3:7], part.samples) and whole.nfe == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_heads": 0}, "sizes of a UDLM must be at least 1, got {'n_heads': 0}"),
        ({"n_heads": 3}, "hidden_dim must be a multiple of 2 \\* n_heads, got 32 and n_heads=3"),
        ({"n_heads": "two"}, "does not describe a UDLM"),
        ({"n_head": 2}, "unknown key 'n_head': did you mean n_heads"),
        ({"dropout": 1.5}, "dropout in .0, 1., got 12 and 1.5"),
        ({"model_length": 2}, "model_length >= 3"),
    ],
)
def test_bad_configurations_are_named(tmp_path, udlm, changes, message):
    udlm.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(ValueError, match=message):
        UDLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]"])
def test_damaged_configurations_are_named(tmp_path, udlm, text):
    udlm.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json of .* (is damaged|does not describe a UDLM)"):
        UDLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("length", [0, 4, 5000])
def test_truncated_weights_are_named(tmp_path, udlm, length):
    udlm.save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match="the weights at .* do not fit"):
        UDLM.from_pretrained(tmp_path)
