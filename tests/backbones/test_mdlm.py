"""MDLM: its parametrisation, its noise, and checkpoints in the published layout."""

import json

import pytest
import torch
from safetensors.torch import save_file

from lidar_lightning import MDLM, UDLM
from lidar_lightning.backbones import smiles
from lidar_lightning.rewards.molecules import parse
from lidar_lightning.sampling import sample
from lidar_lightning.utils.seeding import Generators
from recipes.qm9_pretrain import started
from tests.backbones.test_udlm import published_forward, published_layout
from tests.conftest import tiny, tiny_mdlm

PUBLISHED_CONFIG = {
    "architectures": ["MDLM"], "auto_map": {"AutoModelForMaskedLM": "kuleshov-group/mdlm-owt--modeling_mdlm.MDLM"},
    "cond_dim": 128, "dropout": 0.1, "hidden_dim": 768, "model_length": 1024, "model_type": "mdlm", "n_blocks": 12,
    "n_heads": 12, "return_dict": False, "time_conditioning": False, "torch_dtype": "float32",
    "transformers_version": "4.38.2", "vocab_size": 50258,
}  # fmt: skip


def published_folder(path, **changes):
    """A folder of the layout of kuleshov-group/mdlm-owt, over the tokens of QM9, small and with random weights."""
    path.mkdir()
    small = {"vocab_size": 35, "model_length": 32, "hidden_dim": 48, "cond_dim": 16, "n_blocks": 3, "n_heads": 4}
    (path / "config.json").write_text(json.dumps({**PUBLISHED_CONFIG, **small, **changes}))
    state = {name: torch.randn(shape) * 0.2 for name, shape in published_layout(35, 48, 16, 3, 4).items()}
    state["backbone.rotary_emb.inv_freq"] = 1.0 / (10_000 ** (torch.arange(0, 12, 2).float() / 12))
    save_file(state, path / "model.safetensors")
    return state


def test_a_checkpoint_of_the_published_layout_loads_and_predicts_as_published(tmp_path):
    state = published_folder(tmp_path / "hub")
    model = MDLM.from_pretrained(tmp_path / "hub")
    assert model.state_dict().keys() == state.keys()
    tokens = torch.randint(5, 35, (2, 32), generator=torch.Generator().manual_seed(0))
    tokens[:, ::3] = smiles.MASK
    logits = published_forward(state, tokens, torch.zeros(2).double(), 4)
    logits[..., smiles.MASK] = -torch.inf
    expected = logits.softmax(-1)
    revealed = tokens != smiles.MASK
    expected[revealed] = torch.nn.functional.one_hot(tokens[revealed], 35).double()
    torch.testing.assert_close(model.predict(tokens, torch.rand(2)).double(), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "udlm"}, "of type 'udlm', and MDLM loads those of 'mdlm': load them by UDLM.from_pretrained"),
        ({"vocab_size": 50258}, "50258 tokens.* 35 tokens of QM9"),
        ({"vocab_size": 20}, "20 tokens.* 35 tokens of QM9"),
        ({"redraw": 2.0}, "redraw is a time from 0, which redraws nothing, to 1, got 2.0"),
        ({"model_length": 2}, "MDLM needs model_length >= 3"),
    ],
)
def test_other_models_are_named(tmp_path, changes, message):
    published_folder(tmp_path / "hub", **changes)
    with pytest.raises(ValueError, match=message):
        MDLM.from_pretrained(tmp_path / "hub")


def test_udlm_refuses_the_weights_of_masks(tmp_path):
    tiny_mdlm().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="load them by MDLM.from_pretrained"):
        UDLM.from_pretrained(tmp_path)


def test_missing_checkpoints_are_named():
    with pytest.raises(ValueError, match="no MDLM checkpoint at 'nowhere'"):
        MDLM.from_pretrained("nowhere")


def test_no_token_is_a_mask_and_revealed_ones_stay():
    model = tiny_mdlm()
    x = torch.randint(5, 35, (4, 12), generator=torch.Generator().manual_seed(0))
    x[:, 4:9] = smiles.MASK
    found = model.predict(x, torch.full((4,), 0.5))
    torch.testing.assert_close(found.sum(-1), torch.ones(4, 12))
    assert not found[..., smiles.MASK].any()
    assert (found.argmax(-1)[x != smiles.MASK] == x[x != smiles.MASK]).all()
    assert torch.equal(found, model.predict(x, torch.full((4,), 0.1)))  # the time says nothing


def test_noise_is_masks():
    model, x0 = tiny_mdlm(length=100), torch.full((200, 100), 7)
    t = torch.full((200,), 0.4)
    x_t = model.corrupt(x0, t, torch.Generator().manual_seed(0))
    assert set(x_t.unique().tolist()) == {7, smiles.MASK}
    assert (x_t == 7).float().mean().item() == pytest.approx(model.schedule(t)[0][0].item(), abs=0.015)
    assert (model.prior(Generators([0, 1])) == smiles.MASK).all()
    clean = model.error(x0, x0, t)
    assert torch.equal(clean, torch.zeros(200))  # nothing is masked


@pytest.mark.parametrize("redraw", [0.0, 0.5])
def test_samples_hold_no_mask_and_do_not_depend_on_the_batch(redraw):
    model = tiny_mdlm(redraw=redraw)
    whole = sample(model, model.solver(8), Generators(range(10)), None)
    part = sample(model, model.solver(8), Generators(range(3, 7)), None)
    assert torch.equal(whole.samples[3:7], part.samples) and whole.nfe == 8
    assert not (whole.samples == smiles.MASK).any()


def test_the_least_likely_revealed_token_is_redrawn_and_no_other():
    model = tiny_mdlm(redraw=0.5)
    x = torch.randint(5, 35, (6, 12), generator=torch.Generator().manual_seed(0))
    x[:, 4:9] = smiles.MASK
    found = model.predict(x, torch.full((6,), 0.3))
    law = model.solver(8).transition(found, x, 0.3, 0.2).probabilities
    likelihood = found.gather(-1, x[..., None])[..., 0].masked_fill(x == smiles.MASK, 9.0)
    for row, place in enumerate(likelihood.argmin(1).tolist()):
        torch.testing.assert_close(law[row, place], found[row, place].double())
        others = [k for k in range(12) if k != place and x[row, k] != smiles.MASK]
        assert (law[row, others].gather(-1, x[row, others, None]) == 1).all()
    early = model.solver(8).transition(found, x, 0.6, 0.5).probabilities
    assert (early.gather(-1, x[..., None])[x != smiles.MASK] == 1).all()
    assert model.solver(8).name == "Unmasking(mask=2, power=2, redraw=0.5)"


def test_the_recipe_begins_with_the_weights_of_either_noise(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path / "udlm")
    masks = started("absorbing", str(tmp_path / "udlm"))
    assert isinstance(masks, MDLM) and masks.name == "mdlm-qm9-32x2" and not masks.time_conditioning
    assert all(torch.equal(a, b) for a, b in zip(masks.state_dict().values(), model.state_dict().values(), strict=True))
    assert isinstance(started("uniform", str(tmp_path / "udlm")), UDLM)


def test_the_shipped_checkpoint_draws_molecules():
    model = MDLM.from_pretrained("mdlm-qm9-small")
    strings = model.decode(sample(model, model.solver(24), Generators(range(48)), None).samples)
    assert sum(parse(text) is not None for text in strings) > 36 and len(set(strings)) > 40
