"""Resampling: numbers of copies against their definitions, over many groups at once."""

import math

import pytest
import torch

from lidar_lightning.samplers.resampling import RESAMPLERS, log_ess, pick, resampler

GROUPS, COUNT = 20_000, 6
WEIGHTS = torch.tensor([0.02, 0.3, 0.08, 0.25, 0.0, 0.35], dtype=torch.float64)


def copies(rows, count):
    return torch.nn.functional.one_hot(rows, count).sum(1).double()


def drawn(name, log_weights, groups=GROUPS):
    """Indices (groups, K) from one set of log-weights (K,)."""
    uniforms = torch.rand(groups, len(log_weights), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return resampler(name)(log_weights.expand(groups, -1), uniforms)


@pytest.mark.parametrize("name", RESAMPLERS)
def test_every_particle_has_its_share_on_average(name):
    rows = drawn(name, WEIGHTS.log() + 7)
    assert rows.shape == (GROUPS, COUNT) and rows.dtype == torch.int64 and (rows.diff() >= 0).all()
    expected = COUNT * WEIGHTS
    error = (copies(rows, COUNT).mean(0) - expected).abs()
    assert (error <= 4.5 * (expected / GROUPS).sqrt()).all()


@pytest.mark.parametrize("name", ["systematic", "ssp"])
def test_copies_are_within_one_of_their_share(name):
    weights = torch.rand(GROUPS, COUNT, generator=torch.Generator().manual_seed(1), dtype=torch.float64) ** 3
    uniforms = torch.rand(GROUPS, COUNT, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    share = COUNT * weights / weights.sum(1, keepdim=True)
    assert ((copies(resampler(name)(weights.log(), uniforms), COUNT) - share).abs() < 1 + 1e-9).all()


def test_variance_of_copies():
    """Multinomial: K w (1 - w). The others spread less; where K w is whole, systematic and SSP do not spread at all."""
    variance = {name: copies(drawn(name, WEIGHTS.log()), COUNT).var(0) for name in RESAMPLERS}
    torch.testing.assert_close(variance["multinomial"], COUNT * WEIGHTS * (1 - WEIGHTS), rtol=0.06, atol=0)
    parts = (COUNT * WEIGHTS).frac()
    for name in ("systematic", "ssp"):
        torch.testing.assert_close(variance[name], parts * (1 - parts), rtol=0.1, atol=1e-9)
    assert (variance["stratified"] <= variance["multinomial"] + 1e-9).all()


@pytest.mark.parametrize("name", RESAMPLERS)
def test_extreme_weights(name):
    alone = torch.tensor([-1e300, 3.0, -torch.inf, -1e300], dtype=torch.float64)
    assert (drawn(name, alone, 50) == 1).all()
    assert (drawn(name, torch.tensor([1e300, 0.0, -1e300], dtype=torch.float64), 50) == 0).all()
    assert (drawn(name, torch.tensor([-5e8]).double(), 3) == 0).all()
    huge = copies(drawn(name, torch.tensor([-1e300, -torch.inf, -1e300], dtype=torch.float64)), 3).mean(0)
    torch.testing.assert_close(huge, torch.tensor([1.5, 0, 1.5]).double(), rtol=0, atol=0.03)
    if name != "multinomial":
        assert torch.equal(
            drawn(name, torch.full((5,), -1e300, dtype=torch.float64), 20), torch.arange(5).expand(20, 5)
        )


def test_effective_sample_size():
    assert log_ess(WEIGHTS.log() - 900).exp() == pytest.approx(1 / WEIGHTS.square().sum().item())
    extreme = torch.tensor(
        [[-1e300, 0, -torch.inf], [5e8, 5e8, 5e8], [-1e300, -1e300, -torch.inf]], dtype=torch.float64
    )
    torch.testing.assert_close(log_ess(extreme), torch.tensor([0.0, math.log(3), math.log(2)]).double())


def test_one_pick_by_weight():
    uniforms = torch.rand(GROUPS, 1, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    found = torch.bincount(pick((WEIGHTS.log() - 50).expand(GROUPS, -1), uniforms), minlength=COUNT) / GROUPS
    torch.testing.assert_close(found.double(), WEIGHTS, rtol=0, atol=0.015)
    assert pick(torch.tensor([[0.0, -torch.inf]]), torch.tensor([[1 - 2**-53]], dtype=torch.float64)).item() == 0


@pytest.mark.parametrize("name", RESAMPLERS)
def test_what_weighs_nothing_is_never_taken(name):
    """Not even by the number 0, at which the first particle ends too."""
    weights = torch.tensor([[-torch.inf, 0.0, 0.0]], dtype=torch.float64)
    assert (resampler(name)(weights, torch.zeros(1, 3, dtype=torch.float64)) > 0).all()
    assert pick(weights, torch.zeros(1, 1, dtype=torch.float64)).item() == 1


def test_unknown_resamplers_are_named():
    with pytest.raises(ValueError, match="unknown resampling 'residual': use one of multinomial, stratified"):
        resampler("residual")


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize(
    "run", [log_ess, *(lambda w, f=f: f(w, torch.zeros_like(w)) for f in RESAMPLERS.values()), pick]
)
def test_weights_that_are_none_are_refused(run, bad):
    """Two of three groups: one with such a number, one in which nothing weighs anything."""
    weights = torch.tensor([[0.0, bad], [-torch.inf, -torch.inf], [0.0, -torch.inf]], dtype=torch.float64)
    arguments = (weights, torch.zeros(3, 1)) if run is pick else (weights,)
    with pytest.raises(ValueError, match="resampled in 2 of 3 groups: a log-weight is NaN or infinite, or all weigh"):
        run(*arguments)
