"""Guided sampling of models whose every distribution is known: it must reach the rewarded distribution itself.

Target: p(x0) exp(lambda r(x0)). The model is exact, so that what is left is the bank, and that error falls like
1 / sqrt(n).
"""

import diffusers
import numpy as np
import pytest
import torch

from lidar_lightning.functional import lidar_shift
from lidar_lightning.guidance import LiDARGuidance, LiDARSettings
from lidar_lightning.guidance.mask_kernel import kernel_of
from lidar_lightning.sampling import sample
from lidar_lightning.solvers import Ancestral, SchedulerSolver
from lidar_lightning.utils.seeding import Generators
from tests import reference
from tests.exact import Exact, ExactTokens

SCHEDULER = diffusers.DDIMScheduler(beta_start=1e-4, beta_end=0.02, clip_sample=False)
MIXTURE = reference.Mixture(
    np.array([[1.5, 1.5], [1.5, -1.5], [-1.5, 1.5], [-1.5, -1.5]]), 0.3, np.array([0.1, 0.2, 0.3, 0.4])
)
DIRECTION, LAMBDA = np.array([1.0, 0.5]), 0.55
TILTED = MIXTURE.tilted(DIRECTION, LAMBDA)


class ExactMixture(Exact):
    def __init__(self, schedule):
        super().__init__()
        self.schedule = schedule

    def prior(self, generators):
        return generators.randn(2)

    def predict(self, x_t, t, condition):
        alpha, sigma = (c[0].item() for c in self.schedule(t.double()))
        return torch.from_numpy(MIXTURE.denoise(x_t.double().numpy(), alpha, sigma)).to(x_t)


def mixture_bank(n, rng):
    samples = MIXTURE.draw(n, rng)
    return torch.from_numpy(samples).float(), torch.from_numpy(samples @ DIRECTION)


def test_guided_mixture_is_the_tilted_mixture():
    solver = SchedulerSolver(SCHEDULER, steps=40, eta=1.0)
    backbone, generators = ExactMixture(solver.schedule), Generators(list(range(1500)))
    samples, rewards = mixture_bank(500, np.random.default_rng(0))
    guidance = LiDARGuidance(samples, rewards, solver.schedule, LiDARSettings(temperature=LAMBDA))
    vanilla = sample(backbone, solver, generators, None).samples.numpy()
    guided = sample(backbone, solver, Generators(list(range(1500))), None, guidance).samples.numpy()
    wanted = TILTED.frequencies(TILTED.draw(200_000, np.random.default_rng(1)))
    assert reference.total_variation(MIXTURE.frequencies(vanilla), MIXTURE.weights) < 0.03
    assert reference.total_variation(MIXTURE.frequencies(vanilla), wanted) > 0.3
    assert reference.total_variation(TILTED.frequencies(guided), wanted) < 0.05
    means = [guided[((guided[:, None] - TILTED.means) ** 2).sum(-1).argmin(1) == k].mean(0) for k in range(4)]
    assert abs(np.array(means) - TILTED.means).max() < 0.15


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_the_loop_does_not_depend_on_the_batch(eta):
    solver = SchedulerSolver(SCHEDULER, steps=10, eta=eta)
    backbone = ExactMixture(solver.schedule)
    samples, rewards = mixture_bank(50, np.random.default_rng(2))
    runs = []
    for batches in ([range(6)], [range(2), range(2, 6)]):
        guidance = LiDARGuidance(samples, rewards, solver.schedule, LiDARSettings(temperature=LAMBDA))
        steps: list[int] = []
        parts = [sample(backbone, solver, Generators(list(b)), None, guidance, steps.append) for b in batches]
        assert parts[0].nfe == 10 and steps == list(range(1, 11)) * len(batches)
        runs.append(torch.cat([part.samples for part in parts]))
    torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-5)


def test_error_of_the_shift_falls_like_the_root_of_the_bank():
    rng, alpha, sigma = np.random.default_rng(3), 0.6, 0.8
    x_t = alpha * MIXTURE.draw(64, rng) + sigma * rng.standard_normal((64, 2))
    exact = TILTED.denoise(x_t, alpha, sigma) - MIXTURE.denoise(x_t, alpha, sigma)
    sizes, errors = [200, 800, 3200], []
    for n in sizes:
        squares = []
        for _ in range(24):
            samples, rewards = mixture_bank(n, rng)
            shift = lidar_shift(torch.from_numpy(x_t), alpha, sigma, samples, rewards, LAMBDA).numpy()
            squares.append(((shift - exact) ** 2).sum(-1).mean())
        errors.append(np.sqrt(np.mean(squares)))
    slope = np.polyfit(np.log(sizes), np.log(errors), 1)[0]
    assert -0.6 < slope < -0.4
    assert errors[-1] < 0.05 < np.sqrt((exact**2).sum(-1).mean())


# Tokens: L = 3, V = 4. The law of the sampler is computed, not sampled: 64 states, one transition matrix per step.

LENGTH, VOCAB = 3, 4
STATES = reference.every_sequence(LENGTH, VOCAB)
COUNTS = np.random.default_rng(4).multinomial(500, np.random.default_rng(5).dirichlet(np.full(64, 0.5)))
DATA = COUNTS / COUNTS.sum()
REWARD = np.random.default_rng(6).standard_normal(64)
WANTED = DATA * np.exp(1.5 * REWARD) / (DATA * np.exp(1.5 * REWARD)).sum()
TOKENS = ExactTokens(STATES, DATA, VOCAB)


def sampler_law(guidance=None, steps=96):
    """The distribution over all states that the loop ends in."""
    solver = Ancestral(TOKENS.schedule, steps)
    x, law = torch.from_numpy(STATES), np.full(len(STATES), 1 / len(STATES))
    times = solver.times.tolist()
    for t, s in zip(times, times[1:], strict=False):
        x0_hat = TOKENS.predict(x, torch.tensor([t]), None)
        if guidance is not None:
            x0_hat = guidance(x, t, s, x0_hat)
        posterior = solver.posterior(x0_hat, x, t, s).numpy()
        law = law @ np.prod([posterior[:, k][:, STATES[:, k]] for k in range(LENGTH)], axis=0)
    return law


def token_guidance(rows, **settings):
    bank, rewards = torch.from_numpy(STATES[rows]), torch.from_numpy(REWARD[rows])
    return LiDARGuidance(
        bank, rewards, TOKENS.schedule, LiDARSettings(temperature=1.5, **settings), kernel=kernel_of(VOCAB)
    )


def test_exact_denoiser_reaches_the_data():
    errors = [reference.total_variation(sampler_law(steps=steps), DATA) for steps in (24, 96)]
    assert errors[1] < 0.01
    assert errors[1] < errors[0] / 3  # the steps are factorised: first order in their length
    assert reference.total_variation(DATA, WANTED) > 0.3


def test_bank_that_is_the_data_reaches_the_rewarded_data():
    rows = np.repeat(np.arange(64), COUNTS)
    errors = [reference.total_variation(sampler_law(token_guidance(rows), steps), WANTED) for steps in (24, 96)]
    assert errors[1] < 0.01
    assert errors[1] < errors[0] / 3


def test_random_banks_reach_the_rewarded_data():
    rng, mean = np.random.default_rng(7), {}
    for n in (125, 500, 2000):
        laws = [sampler_law(token_guidance(rng.choice(64, n, p=DATA)), 64) for _ in range(4)]
        mean[n] = np.mean([reference.total_variation(law, WANTED) for law in laws])
    assert mean[500] < 0.06
    assert mean[2000] < 0.7 * mean[500] < 0.5 * mean[125]


def test_the_loop_samples_this_law():
    """2000 samples through the loop are as near its computed law as draws from it are."""
    guidance, seeds = token_guidance(np.random.default_rng(8).choice(64, 200, p=DATA)), Generators(list(range(2000)))
    drawn = sample(TOKENS, Ancestral(TOKENS.schedule, 16), seeds, None, guidance).samples.numpy()
    counts = np.bincount(drawn @ VOCAB ** np.arange(LENGTH)[::-1], minlength=64)
    law = sampler_law(guidance, 16)
    often = 2000 * law > 5
    chi_squared = ((counts - 2000 * law) ** 2 / (2000 * law))[often].sum()
    assert abs(chi_squared - often.sum()) < 4 * np.sqrt(2 * often.sum())
    assert reference.total_variation(counts / 2000, law) < 0.1
