"""Fixed tokens, by enumeration: samples must have the law of the data, or of the rewarded data, given those tokens."""

import numpy as np
import torch

from lidar_lightning import LiDARGuidance, LiDARSettings
from lidar_lightning.guidance.mask_kernel import kernel_of
from lidar_lightning.solvers import Ancestral, Unmasking
from tests import masks, reference
from tests.exact import DATA, STATES, TOKENS, VOCAB
from tests.masks import CLEAN, MASK, MODEL, NOISED, SCORES, TV
from tests.token_laws import product

FIXED = torch.tensor([-1, 2, -1])
HOLD = STATES[:, 1] == 2
GIVEN = DATA * HOLD / (DATA * HOLD).sum()
REWARDED = GIVEN * np.exp(SCORES) / (GIVEN * np.exp(SCORES)).sum()
ROWS = np.random.default_rng(0).choice(64, 1000, p=GIVEN)
"""A bank of the data given the fixed token."""


class WithoutGibbs(Ancestral):
    def forgotten(self, x0_hat, x_t, t):
        return None


def guidance(vocab, mask=None):
    bank, rewards = torch.from_numpy(STATES[ROWS]), torch.from_numpy(SCORES[ROWS])
    kernel = kernel_of(vocab, mask, None if mask is None else 1e-6)
    return LiDARGuidance(bank, rewards, TOKENS.schedule, LiDARSettings(temperature=1.0), kernel)


def uniform_law(solver, guided=None):
    x, law = torch.from_numpy(STATES), HOLD / HOLD.sum()  # what `start` makes of noise
    assert (solver.start(x)[:, 1] == 2).all()
    for t, s in zip(solver.times.tolist(), solver.times.tolist()[1:], strict=False):
        x0_hat = TOKENS.predict(x, torch.tensor([t]), None)
        x0_hat = x0_hat if guided is None else guided(x, t, s, x0_hat)
        law = law @ product(solver.transition(x0_hat, x, t, s).probabilities.numpy())
    return law


def masked_law(solver, guided=None):
    x = torch.from_numpy(NOISED)
    law = (solver.start(torch.full((1, 3), MASK)).numpy() == NOISED).all(1).astype(float)
    for t, s in zip(solver.times.tolist(), solver.times.tolist()[1:], strict=False):
        x0_hat = MODEL.predict(x, torch.tensor([t]), None)
        x0_hat = torch.where(x0_hat.sum(-1, keepdim=True) > 0, x0_hat, 1 / (VOCAB + 1))
        x0_hat = x0_hat if guided is None else guided(x, t, s, x0_hat)
        law = law @ masks.product(solver.transition(x0_hat, x, t, s).probabilities.numpy())
    return law[CLEAN]


def test_masks_have_the_law_given_the_fixed_tokens():
    laws = [masked_law(Unmasking(MODEL.schedule, steps, MASK, fixed=FIXED)) for steps in (8, 48)]
    assert TV(laws[1], GIVEN) < 0.3 * TV(laws[0], GIVEN) < 0.03 < 0.5 < TV(DATA, GIVEN)
    guided = masked_law(Unmasking(MODEL.schedule, 32, MASK, fixed=FIXED), guidance(VOCAB + 1, MASK))
    assert TV(guided, REWARDED) < 0.03 < 0.2 < TV(GIVEN, REWARDED)


def test_uniform_noise_reaches_it_by_redrawing_free_tokens():
    """Clamped tokens alone do not, whatever the steps: the prediction takes them for noised ones."""
    clamped = [TV(uniform_law(WithoutGibbs(TOKENS.schedule, n, fixed=FIXED)), GIVEN) for n in (16, 128)]
    redrawn = [TV(uniform_law(Ancestral(TOKENS.schedule, n, fixed=FIXED)), GIVEN) for n in (16, 128)]
    assert clamped[1] > 0.05 > 0.005 > redrawn[0] > 3 * redrawn[1]


def test_uniform_noise_reaches_the_rewarded_law():
    assert TV(uniform_law(Ancestral(TOKENS.schedule, 64, fixed=FIXED), guidance(VOCAB)), REWARDED) < 0.03


def test_noised_fixed_tokens_would_be_further_away():
    """The other way to fix tokens: they are noised along the process, each from its own bridge."""
    solver, x, law = Ancestral(TOKENS.schedule, 64), torch.from_numpy(STATES), np.full(64, 1 / 64)
    kept = np.tile(np.eye(VOCAB)[2], (64, 3, 1))
    for t, s in zip(solver.times.tolist(), solver.times.tolist()[1:], strict=False):
        step = solver.posterior(TOKENS.predict(x, torch.tensor([t]), None), x, t, s).numpy()
        alphas = [TOKENS.schedule(torch.tensor(time))[0].item() for time in (t, s)]
        step[:, 1] = reference.udlm_posterior(kept, STATES, *alphas)[:, 1]
        law = law @ product(step)
    assert TV(law, GIVEN) > 0.08


def test_free_solvers_are_as_they_were():
    x0_hat = torch.rand(4, 3, VOCAB, generator=torch.Generator().manual_seed(0)).double()
    x0_hat /= x0_hat.sum(-1, keepdim=True)
    x = torch.from_numpy(STATES[:4])
    free, none = (Ancestral(TOKENS.schedule, 8, redraw=0.5, fixed=f) for f in (torch.full((3,), -1), None))
    assert torch.equal(free.transition(x0_hat, x, 0.3, 0.2)[0], none.transition(x0_hat, x, 0.3, 0.2)[0])
    every = Ancestral(TOKENS.schedule, 8, redraw=0.5, fixed=torch.tensor([1, 2, 3]))
    assert (
        every.transition(x0_hat, every.start(x), 0.9, 0.2).probabilities.argmax(-1) == torch.tensor([1, 2, 3])
    ).all()
    assert (every.estimate(x0_hat, every.start(x), 0.3) == torch.tensor([1, 2, 3])).all()
