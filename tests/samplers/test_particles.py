"""SMC and backward rollout: the laws of what their particles become, against enumerated and exact ones."""

import numpy as np
import pytest
import torch

from lidar_lightning.samplers.best_of_n import BestOfN
from lidar_lightning.samplers.das import DAS
from lidar_lightning.samplers.rollout import BackwardRollout
from lidar_lightning.samplers.smc import SMC, Look, ParticleSampler
from lidar_lightning.solvers import Categorical
from lidar_lightning.utils.seeding import Generators
from tests.exact import (
    FIVE,
    LENGTH,
    TOKENS,
    VOCAB,
    Linear,
    Table,
    large,
    task,
    tilted,
    total_variation,
)
from tests.token_laws import CHAIN, REWARD, Chain, best_of, has_law, many_tokens, noise, one_of_two, tilt, tokens_task

LINEAR = Linear([0.6, 0.3])
POTENTIALS = ("diff", "max", "add", "rt")


def written_out(potential, values):
    """The log of the product of all potentials, from the values (i,) that one particle has had."""
    if potential == "diff":
        return values[-1]
    each = {"max": np.maximum.accumulate, "add": np.cumsum, "rt": np.asarray}[potential](values)
    return each.sum()


@pytest.mark.parametrize("potential", POTENTIALS)
def test_twists_follow_the_history_of_each_particle(potential, monkeypatch):
    values = np.random.default_rng(0).standard_normal((5, 6))
    given, sampler, left = tokens_task(), SMC(3, potential=potential, every=1, start=1.0, stop=0.0), iter(values)
    monkeypatch.setattr(given, "value", lambda x0: torch.from_numpy(next(left)))
    x, past, carry = given.start(given.generators(6)), [[] for _ in range(6)], sampler.prepare(given, 2)
    for i in range(5):
        past = [[*one, value] for one, value in zip(past, values[i], strict=True)]
        seen = sampler.look(given, x, i, carry)
        np.testing.assert_allclose(seen.twist, [written_out(potential, one) for one in past])
        rows = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 1, 2, 3, 3, 3], [0, 0, 0, 4, 5, 5]][i % 3])
        carry = sampler.follow(seen.carry, rows)
        past = [past[row] for row in rows]


@pytest.mark.parametrize("potential", POTENTIALS)
def test_smc_samples_the_rewarded_tokens(potential):
    target = tilt(CHAIN.law(), REWARD)
    laws = {
        k: TOKENS.law(SMC(k, potential=potential, every=2, start=1.0, stop=0.0)(many_tokens(), 800)) for k in (1, 16)
    }
    distances = [total_variation(law, target) for law in laws.values()]
    assert distances[0] > 0.2 and distances[1] < 0.05 + noise(target, 800)[0]


@pytest.mark.parametrize("potential", POTENTIALS)
def test_smc_samples_the_rewarded_mixture(potential):
    _, wanted = tilted(FIVE, LINEAR, 1.0)
    given = large(FIVE, LINEAR, 1.0, 20)
    found = FIVE.frequencies(SMC(24, potential=potential)(given, 500))
    assert total_variation(found, wanted) < 0.05 < 0.2 < total_variation(FIVE.weights, wanted)


def test_backward_rollout_samples_the_rewarded_tokens():
    chain = Chain(4)
    target = tilt(chain.law(), REWARD)
    distances = [
        total_variation(TOKENS.law(BackwardRollout(k, rollouts=2, every=every)(many_tokens(4), 600)), target)
        for k, every in ((1, 1), (12, 1), (12, 3))
    ]
    assert distances[0] > 0.2 and max(distances[1:]) < 0.05 + noise(target, 600)[0]


def test_backward_rollout_of_a_constant_is_this_constant():
    given, sampler = task(TOKENS, Table(np.full(64, 0.7), VOCAB, LENGTH), 2.0, 4), BackwardRollout(3, rollouts=5)
    x = given.start(given.generators(3))
    seen = sampler.look(given, x, 0, sampler.prepare(given, 1))
    torch.testing.assert_close(seen.twist, torch.full((3,), 1.4, dtype=torch.float64), rtol=1e-6, atol=0)


def test_backward_rollout_samples_the_rewarded_mixture():
    plain = BestOfN(1)(large(FIVE, LINEAR, 1.0, 6, seed=9), 6000)
    wanted = FIVE.frequencies(plain, LINEAR(plain, []).softmax(0))
    found = FIVE.frequencies(BackwardRollout(12, rollouts=2)(large(FIVE, LINEAR, 1.0, 6), 400))
    assert total_variation(found, wanted) < 0.05


def test_weights_are_carried_when_resampling_is_skipped():
    """Two particles that are never resampled, whatever the twists: one of two draws by exp(r)."""
    law = one_of_two(CHAIN.law(), REWARD)
    for potential in POTENTIALS:
        sampler = SMC(2, threshold=0, potential=potential, every=1, start=1.0, stop=0.0)
        assert has_law(sampler(many_tokens(), 2000), law)


def test_keeping_the_best_of_particles_that_are_not_resampled():
    law = best_of(CHAIN.law(), REWARD, 3)
    assert has_law(SMC(3, threshold=0, keep="best", pooled=False)(many_tokens(), 2000), law)


def test_groups_are_resampled_alone():
    sampler = SMC(3, threshold=0.5)
    weights = torch.tensor([0.0, 0.1, 0.2, 0.0, -9.0, -9.0], dtype=torch.float64)
    rows, after = sampler.resampled(weights, Generators([0, 1]))
    assert rows.tolist() == [0, 1, 2, 3, 3, 3]
    assert torch.equal(after[:3], weights[:3])
    torch.testing.assert_close(after[3:], (weights[3:].exp().mean().log()).expand(3))
    rows, after = sampler.resampled(weights[:3], Generators([0]))
    assert rows is None and torch.equal(after, weights[:3])


@pytest.mark.parametrize("make", [SMC, lambda particles, **options: DAS(particles, derivative_free=True, **options)])
def test_two_particles_are_resampled(make):
    """Effective sample sizes of two lie in [1, 2]: half of two would never be undercut."""
    logs = torch.tensor([0.0, -9.0, 0.0, -0.1], dtype=torch.float64)
    rows, after = make(2).resampled(logs, Generators([0, 1]))
    assert rows.tolist() == [0, 0, 2, 3]
    torch.testing.assert_close(after, torch.stack([logs[:2].exp().mean().log()] * 2 + list(logs[2:])))
    # The limits: 1 resamples whatever is uneven, 0 never.
    assert make(2, threshold=1.0).resampled(logs, Generators([0, 1]))[0] is not None
    assert make(2, threshold=0.0).resampled(torch.tensor([0.0, -1e9]).double(), Generators([0]))[0] is None
    assert make(4, threshold=1.0).resampled(torch.zeros(4).double(), Generators([0]))[0] is None


def test_two_particles_come_closer_by_resampling():
    target = tilt(CHAIN.law(), REWARD)
    settings = {"every": 1, "start": 1.0, "stop": 0.0}
    distances = [
        total_variation(TOKENS.law(SMC(2, threshold=threshold, **settings)(many_tokens(), 4000)), target)
        for threshold in (0.0, 0.5)
    ]
    assert distances[1] < distances[0]


class Proposing(ParticleSampler):
    """Half of every step is uniform."""

    def look(self, task, x_t, i, carry):
        t = task.steps[i][0]
        x0_hat = task.predict(x_t, t)
        return Look(x0_hat, task.value(task.solver.estimate(x0_hat, x_t, t)))

    def propose(self, task, x_t, i, seen, model):
        return Categorical(0.5 * model.probabilities + 0.5 / VOCAB)


def test_weights_make_up_for_the_proposal():
    chain = Chain(4)
    target = tilt(chain.law(), REWARD)
    x = Proposing(48)(many_tokens(4), 800)
    assert total_variation(TOKENS.law(x), target) < 0.05 + noise(target, 800)[0]
