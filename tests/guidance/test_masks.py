"""LiDAR under absorbing noise, by enumeration: what a mask hides, and that guided samples reach the rewarded law."""

import numpy as np
import pytest
import torch

from lidar_lightning import LiDARGuidance, LiDARSettings, Lookahead
from lidar_lightning.functional import lidar_log_ratio
from lidar_lightning.guidance.kernels import TokenKernel
from lidar_lightning.guidance.mask_kernel import MaskKernel, kernel_of
from lidar_lightning.samplers import DCBG, SMC, SVDD, BestOfN, LiDAR
from lidar_lightning.samplers.restart import place_of
from lidar_lightning.solvers import Unmasking
from tests import reference
from tests.exact import DATA, LENGTH, STATES, VOCAB, large
from tests.masks import CLEAN, MASK, MODEL, NOISED, POWERS, SCORES, TABLE, TILTED, TV, ExactMasks, product, sampler_law

COUNTS = np.random.default_rng(4).multinomial(500, DATA)
BANK = np.repeat(np.arange(64), COUNTS)


def guidance(rows, smoothing=1e-9, **settings):
    chosen = LiDARSettings(temperature=1.0, **settings)
    kernel = kernel_of(VOCAB + 1, MASK, smoothing)
    return LiDARGuidance(torch.from_numpy(STATES[rows]), torch.from_numpy(SCORES[rows]), MODEL.schedule, chosen, kernel)


def members(rows, e):
    """Of each member, the law of the sequences that it stands for: (n, 64)."""
    tokens = (1 - e) * np.eye(VOCAB)[STATES[rows]] + e / VOCAB
    return np.prod([tokens[:, place][:, STATES[:, place]] for place in range(LENGTH)], axis=0)


@pytest.mark.parametrize("e", [1e-3, 0.3])
def test_the_kernel_is_bayes_rule_for_smoothed_members(e):
    """Every noised state, against sums over all sequences that the members may stand for."""
    rows = np.random.default_rng(0).integers(0, 64, 7)
    kernel = MaskKernel(torch.from_numpy(STATES[rows])[None], VOCAB + 1, MASK, e)
    agree = ((NOISED[:, None] == STATES) | (NOISED[:, None] == MASK)).all(2)
    joint = np.einsum("bs,is->bi", agree, members(rows, e))
    weights = kernel.logits(torch.from_numpy(NOISED)[None])[0].softmax(-1).numpy()
    np.testing.assert_allclose(weights, joint / joint.sum(1, keepdims=True), rtol=1e-9)
    prediction = (
        kernel.log_prediction(torch.from_numpy(weights)[None], torch.from_numpy(NOISED)[None])
        .exp()[0, ..., :VOCAB]
        .numpy()
    )
    table = np.einsum("bs,is,slv->blv", agree, members(rows, e), np.eye(VOCAB)[STATES]) / joint.sum(1)[:, None, None]
    masked = NOISED == MASK
    np.testing.assert_allclose(prediction[masked], table[masked], rtol=1e-5)
    hidden = np.where(np.arange(LENGTH) == 1, MASK, NOISED) @ POWERS  # a revealed position, from the others
    np.testing.assert_allclose(prediction[:, 1], table[hidden, 1], rtol=1e-4)


def test_without_smoothing_only_members_that_agree_count():
    rows = np.arange(64)
    weights = MaskKernel(torch.from_numpy(STATES)[None], VOCAB + 1, MASK, 1e-12).logits(torch.from_numpy(NOISED)[None])
    agree = ((NOISED[:, None] == STATES[rows]) | (NOISED[:, None] == MASK)).all(2)
    np.testing.assert_allclose(weights[0].softmax(-1), agree / agree.sum(1, keepdims=True), atol=1e-9)


def test_the_log_ratio_is_the_change_of_the_lookahead_reward():
    """r(x_t with a mask revealed as v) - r(x_t), by two evaluations of log Sum_i w_i exp(lambda r_i)."""
    given = guidance(BANK, 0.05)
    x = torch.from_numpy(NOISED)
    found = lidar_log_ratio(
        x, 0.5, torch.from_numpy(STATES[BANK]), torch.from_numpy(SCORES[BANK]), 1.0, VOCAB + 1, MASK, 0.05
    )
    before = given.lookahead_reward(x, 0.5)
    for place in range(LENGTH):
        for v in range(VOCAB):
            edited = x.clone()
            edited[:, place] = v
            change = (given.lookahead_reward(edited, 0.5) - before) * (x[:, place] == MASK)
            torch.testing.assert_close(found[:, place, v], change, rtol=1e-4, atol=1e-5)


def test_smoothing_of_uniform_noise_is_more_noise():
    samples = torch.from_numpy(STATES[BANK])[None]
    x = torch.from_numpy(STATES[:5])[None]
    torch.testing.assert_close(
        TokenKernel(samples, VOCAB, 0.1).logits(x, 0.6), TokenKernel(samples, VOCAB).logits(x, 0.9 * 0.6)
    )


def test_the_exact_denoiser_reaches_the_data():
    errors = [TV(sampler_law(MODEL, steps), DATA) for steps in (12, 48)]
    assert errors[1] < 0.02
    assert errors[1] < errors[0] / 3
    assert TV(DATA, TILTED) > 0.3


def test_a_bank_that_is_the_data_reaches_the_rewarded_data():
    data = COUNTS / 500
    wanted = data * np.exp(SCORES) / (data * np.exp(SCORES)).sum()
    errors = [TV(sampler_law(ExactMasks(data), steps, guidance(BANK)), wanted) for steps in (12, 48)]
    assert errors[1] < 0.02
    assert errors[1] < errors[0] / 3


def test_random_banks_reach_the_rewarded_data():
    rng, mean = np.random.default_rng(7), {}
    for n in (125, 500, 2000):
        laws = [sampler_law(MODEL, 32, guidance(rng.choice(64, n, p=DATA), 1e-4)) for _ in range(3)]
        mean[n] = np.mean([TV(law, TILTED) for law in laws])
    assert mean[500] < 0.06
    assert mean[2000] < 0.9 * mean[500] < 0.7 * mean[125]


def test_a_smoothed_bank_is_the_tilt_of_what_it_stands_for():
    """The model is the law of the smoothed members, so that nothing is left but steps."""
    rows = np.random.default_rng(8).choice(64, 24, p=DATA)
    stands, tilt = members(rows, 0.2), np.exp(SCORES[rows])
    law = sampler_law(ExactMasks(stands.mean(0)), 48, guidance(rows, 0.2))
    assert TV(law, tilt @ stands / tilt.sum()) < 0.02 < 0.1 < TV(stands.mean(0), tilt @ stands / tilt.sum())


@pytest.mark.parametrize("t0", [0.0, 0.3, 0.7])
def test_restarts_reach_the_rewarded_law(t0):
    rng, mean = np.random.default_rng(1), {}
    solver = MODEL.solver(32)
    for n in (125, 2000):
        errors = []
        for _ in range(2):
            rows = rng.choice(64, n, p=DATA)
            clean, place = np.zeros(len(NOISED)), place_of(solver.times, t0)
            np.add.at(clean, CLEAN[rows], reference.softmax(SCORES[rows]))
            alpha = MODEL.schedule(solver.times[place])[0].item()
            kept = alpha * np.eye(VOCAB + 1)[NOISED] + (1 - alpha) * np.eye(VOCAB + 1)[np.full_like(NOISED, MASK)]
            errors.append(TV(sampler_law(MODEL, 32, guidance(rows, 1e-4), clean @ product(kept), place), TILTED))
        mean[n] = np.mean(errors)
    assert mean[2000] < 0.06
    assert mean[2000] < 0.7 * mean[125]


def drawn(sampler, count=2000, steps=16):
    return MODEL.law(sampler(large(MODEL, TABLE, steps=steps), count))


def noise_of(law, count=2000):
    return np.mean([TV(np.random.default_rng(k).multinomial(count, law) / count, law) for k in range(20)])


@pytest.mark.parametrize(
    "sampler",
    [
        LiDAR(Lookahead(16, 1000, batch_size=1000), smoothing=1e-4),
        LiDAR(Lookahead(16, 1000, batch_size=1000), restart=0.5, smoothing=1e-4),
        LiDAR(Lookahead(16, 200, batch_size=1000), restart=0.7, moves=6), SMC(8),
    ],
    ids=["lidar", "restart", "moves", "smc"],
)  # fmt: skip
def test_samplers_reach_the_rewarded_law(sampler):
    """Through the loop, with what is left of particles, steps and banks."""
    assert TV(drawn(sampler), TILTED) < 0.14 < 0.3 < TV(DATA, TILTED)


def test_search_raises_the_reward():
    for sampler in (BestOfN(4), DCBG(), SVDD(4)):
        assert drawn(sampler, 200, 6) @ SCORES > DATA @ SCORES + 0.3


def test_plain_samples_have_the_law_of_the_solver():
    law = sampler_law(MODEL, 16)
    assert TV(drawn(BestOfN(1)), law) < 1.4 * noise_of(law)


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match="smoothing is a chance"):
        LiDARSettings(smoothing=1.0)
    with pytest.raises(ValueError, match="for continuous data"):
        kernel_of(None, smoothing=0.1)
    with pytest.raises(ValueError, match="soon none does"):
        kernel_of(5, 4, 0.0)
    with pytest.raises(ValueError, match="redraw is a time"):
        Unmasking(MODEL.schedule, 4, MASK, redraw=2.0)
    with pytest.raises(ValueError, match="at least 1 step"):
        Unmasking(MODEL.schedule, 0, MASK)
