"""Samplers without gradients: the laws of what they draw, against laws computed by enumeration, and what they spend.

Tokens (64 states) have every law in closed form: the steps of the solver are one matrix each, and each method is its
own definition written out over the states.
"""

import math
from collections import defaultdict
from types import SimpleNamespace

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lidar_lightning import Lookahead
from lidar_lightning.modules.value import ValueModule, rollouts
from lidar_lightning.rewards import CallableReward
from lidar_lightning.samplers.base import Task
from lidar_lightning.samplers.best_of_n import BestOfN
from lidar_lightning.samplers.das import DAS
from lidar_lightning.samplers.dcbg import DCBG
from lidar_lightning.samplers.lidar_smc import LiDARSMC
from lidar_lightning.samplers.meter import BudgetSpentError, Meter
from lidar_lightning.samplers.rbf import RBF
from lidar_lightning.samplers.rollout import BackwardRollout
from lidar_lightning.samplers.smc import SMC, ParticleSampler
from lidar_lightning.samplers.svdd import SVDD
from lidar_lightning.seeding import Generators
from lidar_lightning.solvers import Categorical, FlowSDE, GaussianAncestral, SchedulerSolver
from tests import reference
from tests.exact import (
    DATA,
    FIVE,
    FIVE_FLOW,
    LENGTH,
    SCORES,
    STATES,
    TABLE,
    TOKENS,
    TOKENS_TILTED,
    VOCAB,
    Linear,
    Table,
    task,
    tilted,
    total_variation,
)

REWARD = SCORES.astype(np.float32).astype(float)
LINEAR = Linear([0.6, 0.3])

pytestmark = pytest.mark.usefixtures("one_thread")


# Laws of tokens, by enumeration


def product(tokens):
    """Probabilities (64, L, V) of tokens to those of states (64, 64)."""
    return np.prod([tokens[:, place][:, STATES[:, place]] for place in range(LENGTH)], axis=0)


def alpha(t):
    return 1 - (1 - 1e-3) * t


class Chain:
    """The solver's steps: tokens (64, L, V), matrices (64, 64) and values of all states at each time."""

    def __init__(self, steps):
        times = np.linspace(1, 0, steps + 1).clip(1e-5)
        self.steps, self.tokens, self.values = steps, [], []
        for t, s in zip(times, times[1:], strict=False):
            x0_hat = reference.leave_one_out(STATES, alpha(t), STATES, DATA, VOCAB)
            self.tokens.append(reference.udlm_posterior(x0_hat, STATES, alpha(t), alpha(s)))
            guess = reference.udlm_posterior(x0_hat, STATES, alpha(t), 1.0).argmax(-1)
            self.values.append(REWARD[guess @ VOCAB ** np.arange(LENGTH)[::-1]])
        self.values.append(REWARD)
        self.matrices = [product(tokens) for tokens in self.tokens]

    def law(self, matrices=None):
        """Of the last state, from uniform noise."""
        law = np.full(64, 1 / 64)
        for matrix in matrices or self.matrices:
            law = law @ matrix
        return law

    def soft_values(self):
        """log E[exp(r(x0)) | x_t] of all states at each time."""
        values = [np.exp(REWARD)]
        for matrix in self.matrices[::-1]:
            values.insert(0, matrix @ values[0])
        return np.log(values)


def best_of(law, values, n):
    """The law of the best of n draws: P(max <= c) = P(value <= c)^n; equal values share it as they share the law."""
    below, mass = (np.array([law[compare(values, v)].sum() for v in values]) for compare in (np.less, np.equal))
    top = (below + mass) ** n - below**n
    return np.divide(law * top, mass, out=np.zeros_like(law), where=mass > 0)


def one_of_two(law, values):
    """The law of one of two draws, picked in proportion to exp(value)."""
    return 2 * law * (law / (1 + np.exp(values - values[:, None]))).sum(1)


def tilt(law, values):
    return law * np.exp(values) / (law @ np.exp(values))


def noise(law, count, draws=300):
    """Mean and standard deviation of the distance between a law and `count` draws from it."""
    counts = np.random.default_rng(0).multinomial(count, law / law.sum(), draws)
    distances = 0.5 * abs(counts / count - law).sum(1)
    return distances.mean(), distances.std()


def has_law(x, law):
    """Whether samples x are as near a law as draws from it are."""
    mean, std = noise(law, len(x))
    return total_variation(TOKENS.law(x), law) < mean + 4 * std


CHAIN = Chain(6)


def tokens_task(steps=6, **settings):
    return task(TOKENS, TABLE, 1.0, steps, **settings)


def test_the_chain_is_the_model():
    assert CHAIN.law().sum() == pytest.approx(1)
    assert total_variation(Chain(96).law(), DATA) < 0.02
    assert total_variation(tilt(Chain(96).law(), REWARD), TOKENS_TILTED) < 0.02
    assert has_law(BestOfN(1)(tokens_task(), 2000), CHAIN.law())


def test_best_of_n_is_the_maximum_of_n_draws():
    assert has_law(BestOfN(4)(tokens_task(), 2000), best_of(CHAIN.law(), REWARD, 4))


def test_svdd_is_its_own_definition():
    """Each step draws children from the solver's matrix and picks one by the value at its time."""
    pairs = [
        (SVDD(2), lambda law, values: one_of_two(law, values)),
        (SVDD(3, "best"), lambda law, values: best_of(law, values, 3)),
    ]
    for sampler, choose in pairs:
        steps = zip(CHAIN.matrices, CHAIN.values[1:], strict=True)
        law = CHAIN.law([np.array([choose(row, values) for row in matrix]) for matrix, values in steps])
        assert total_variation(law, CHAIN.law()) > 0.2
        assert has_law(sampler(tokens_task(), 2000), law)


def test_svdd_with_the_true_value_samples_the_target():
    soft, powers = CHAIN.soft_values(), torch.tensor(VOCAB ** np.arange(LENGTH)[::-1].copy())
    times = {round(t, 9): i for i, t in enumerate(TOKENS.solver(6).times.tolist())}
    sampler = SVDD(16, value=lambda x, t: torch.from_numpy(soft[times[round(t[0].item(), 9)]])[x @ powers])
    given = tokens_task()
    distance = total_variation(TOKENS.law(sampler(given, 2000)), tilt(CHAIN.law(), REWARD))
    assert distance < 0.05 + noise(tilt(CHAIN.law(), REWARD), 2000)[0]
    assert given.meter.network == 6 * 2000


@pytest.mark.parametrize(("calls", "starts"), [(14, 2), (9, 1), (25, 4)])
def test_rbf_is_its_own_definition(calls, starts):
    """Four steps, followed over all (state, best value, calls left, calls rolled over)."""
    chain, quota = Chain(4), (calls - starts) // 4
    first = best_of(np.full(64, 1 / 64), chain.values[0], starts)
    law = {(x, chain.values[0][x], calls - starts, 0): first[x] for x in range(64)}
    for i in range(3):
        values, after = chain.values[i + 1], defaultdict(float)
        for (x, best, left, rolled), chance in law.items():
            row, limit = chain.matrices[i][x], left if i == 2 else quota + rolled
            beats = (values > best) & (i < 2)
            missed = np.where(beats, 0, row)
            for drawn in range(1, limit + 1):
                for y in beats.nonzero()[0]:
                    key = (y, values[y], left - drawn, limit - drawn)
                    after[key] += chance * missed.sum() ** (drawn - 1) * row[y]
            for y, mass in enumerate(best_of(missed, values, limit)):
                after[y, best, left - limit, 0] += chance * mass
        law = {key: chance for key, chance in after.items() if chance > 1e-9}
    states = np.zeros(64)
    for (x, *_), chance in law.items():
        states[x] += chance
    x = RBF(calls, starts)(tokens_task(4), 2000)
    assert has_law(x, states @ chain.matrices[3])


@pytest.mark.parametrize(
    ("calls", "values", "expected"),
    [
        (16, [0.0, 1.0, *[0.5] * 5, 0.8, 0.7, 0.6, *[2.0] * 6], [1, 1, 5, 3, 6]),
        (17, [0.0, *[-1.0] * 16], [1, 3, 3, 3, 7]),
    ],
)
def test_rbf_rolls_over_what_is_left(calls, values, expected, monkeypatch):
    """Quota 3: the first child beats the start and leaves 2; 5 and then 3 children fail to beat it; the end takes 6.
    Where none beats the start every step takes 3, and the end what is left."""
    given, values = tokens_task(5), iter(values)
    times, predict = [], given.predict
    monkeypatch.setattr(given, "predict", lambda x, t: times.append(t) or predict(x, t))
    monkeypatch.setattr(given, "value", lambda x0: torch.tensor([next(values)], dtype=torch.float64))
    RBF(calls, 1)(given, 1)
    assert [times.count(t) for t, _ in given.steps] == expected


def test_rbf_spends_its_budget_and_gains_by_it():
    for model, reward in ((TOKENS, TABLE), (FIVE, LINEAR)):
        mean = []
        for calls in (16, 40, 80):
            given = task(model, reward, 1.0, 8)
            mean.append(reward(RBF(calls, 4)(given, 200), []).mean().item())
            assert given.meter.network == given.meter.rewards == 200 * calls
        assert mean[0] + 0.1 < mean[1] < mean[2]


def test_dcbg_is_its_own_definition():
    matrices = []
    for values, tokens in zip(CHAIN.values, CHAIN.tokens, strict=False):
        change = np.zeros_like(tokens)
        for x, place, token in np.ndindex(change.shape):
            edited = STATES[x].copy()
            edited[place] = token
            change[x, place, token] = values[edited @ VOCAB ** np.arange(LENGTH)[::-1]]
        guided = tokens * np.exp(1.5 * change)
        matrices.append(product(guided / guided.sum(-1, keepdims=True)))
    assert has_law(DCBG(1.5)(tokens_task(), 2000), CHAIN.law(matrices))
    # Of 6 steps 2 are guided, at even distances.
    some = [matrices[i] if i in (2, 5) else CHAIN.matrices[i] for i in range(6)]
    assert has_law(DCBG(1.5, calls=6 + 2 * 9)(tokens_task(), 2000), CHAIN.law(some))


# Particles


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
    given, sampler, left = tokens_task(), SMC(3, potential=potential, every=1, begin=0, end=1), iter(values)
    monkeypatch.setattr(given, "value", lambda x0: torch.from_numpy(next(left)))
    sampler.prepare(given, 2)
    x, past = given.start(given.generators(6)), [[] for _ in range(6)]
    for i in range(5):
        past = [[*one, value] for one, value in zip(past, values[i], strict=True)]
        twist = sampler.twist(given, x, given.predict(x, given.steps[i][0]), i)
        np.testing.assert_allclose(twist, [written_out(potential, one) for one in past])
        rows = torch.tensor([[0, 1, 2, 3, 4, 5], [1, 1, 2, 3, 3, 3], [0, 0, 0, 4, 5, 5]][i % 3])
        sampler.follow(rows)
        past = [past[row] for row in rows]


@pytest.mark.parametrize("potential", POTENTIALS)
def test_smc_samples_the_rewarded_tokens(potential):
    target = tilt(CHAIN.law(), REWARD)
    laws = {k: TOKENS.law(SMC(k, potential=potential, every=2, begin=0, end=1)(tokens_task(), 800)) for k in (1, 16)}
    distances = [total_variation(law, target) for law in laws.values()]
    assert distances[0] > 0.2 and distances[1] < 0.05 + noise(target, 800)[0]


@pytest.mark.parametrize("potential", POTENTIALS)
def test_smc_samples_the_rewarded_mixture(potential):
    _, wanted = tilted(FIVE, LINEAR, 1.0)
    given = task(FIVE, LINEAR, 1.0, 20)
    found = FIVE.frequencies(SMC(24, potential=potential)(given, 500))
    assert total_variation(found, wanted) < 0.05 < 0.2 < total_variation(FIVE.weights, wanted)


def test_backward_rollout_samples_the_rewarded_tokens():
    chain = Chain(4)
    target = tilt(chain.law(), REWARD)
    distances = [
        total_variation(TOKENS.law(BackwardRollout(k, rollouts=2, every=every)(tokens_task(4), 600)), target)
        for k, every in ((1, 1), (12, 1), (12, 3))
    ]
    assert distances[0] > 0.2 and max(distances[1:]) < 0.05 + noise(target, 600)[0]


def test_backward_rollout_of_a_constant_is_this_constant():
    given, sampler = task(TOKENS, Table(np.full(64, 0.7), VOCAB, LENGTH), 2.0, 4), BackwardRollout(3, rollouts=5)
    sampler.prepare(given, 1)
    x = given.start(given.generators(3))
    twist = sampler.twist(given, x, given.predict(x, 1.0), 0)
    torch.testing.assert_close(twist, torch.full((3,), 1.4, dtype=torch.float64), rtol=1e-6, atol=0)


def test_backward_rollout_samples_the_rewarded_mixture():
    plain = BestOfN(1)(task(FIVE, LINEAR, 1.0, 6, seed=9), 6000)
    wanted = FIVE.frequencies(plain, LINEAR(plain, []).softmax(0))
    found = FIVE.frequencies(BackwardRollout(12, rollouts=2)(task(FIVE, LINEAR, 1.0, 6), 400))
    assert total_variation(found, wanted) < 0.05


def test_weights_are_carried_when_resampling_is_skipped():
    """Two particles that are never resampled, whatever the twists: one of two draws by exp(r)."""
    law = one_of_two(CHAIN.law(), REWARD)
    for potential in POTENTIALS:
        sampler = SMC(2, threshold=0, potential=potential, every=1, begin=0, end=1)
        assert has_law(sampler(tokens_task(), 2000), law)


def test_keeping_the_best_of_particles_that_are_not_resampled():
    law = best_of(CHAIN.law(), REWARD, 3)
    assert has_law(SMC(3, threshold=0, keep="best")(tokens_task(), 2000), law)


def test_groups_are_resampled_alone():
    sampler = SMC(3, threshold=0.5)
    weights = torch.tensor([0.0, 0.1, 0.2, 0.0, -9.0, -9.0], dtype=torch.float64)
    rows, after = sampler.resampled(weights, Generators([0, 1]))
    assert rows.tolist() == [0, 1, 2, 3, 3, 3]
    assert torch.equal(after[:3], weights[:3])
    torch.testing.assert_close(after[3:], (weights[3:].exp().mean().log()).expand(3))
    rows, after = sampler.resampled(weights[:3], Generators([0]))
    assert rows is None and torch.equal(after, weights[:3])


class Proposing(ParticleSampler):
    """Half of every step is uniform."""

    def twist(self, task, x_t, x0_hat, i):
        return task.value(task.solver.estimate(x0_hat, x_t, task.steps[i][0]))

    def propose(self, task, x_t, x0_hat, i, model):
        return Categorical(0.5 * model.probabilities + 0.5 / VOCAB)


def test_weights_make_up_for_the_proposal():
    chain = Chain(4)
    target = tilt(chain.law(), REWARD)
    x = Proposing(48)(tokens_task(4), 800)
    assert total_variation(TOKENS.law(x), target) < 0.05 + noise(target, 800)[0]


# Costs and refusals


@pytest.mark.parametrize(
    ("sampler", "network", "rewards"),
    [
        (BestOfN(3), 3 * 6, 3),
        (SMC(5, every=2, begin=0, end=1), 5 * 6, 5 * (3 + 1)),
        (SMC(5, every=1, begin=1 / 6, end=0.5), 5 * 6, 5 * (3 + 1)),
        (SVDD(4), 1 + 4 * 5, 4 * 6),
        (SVDD(4, "best", value=lambda x, t: t), 6, 4),
        (RBF(23, 3), 23, 23),
        (BackwardRollout(2, rollouts=3, every=2), 2 * (6 + 3 * (5 + 3 + 1)), 2 * (3 * 3 + 1)),
        (DCBG(), 6 * 10, 6 * 10),
        (DCBG(calls=6 + 3 * 9 + 8), 6 + 3 * 9, 3 * 10),
    ],
    ids=lambda value: type(value).__name__ if hasattr(value, "draw") else "",
)
def test_the_meter_counts_each_sample(sampler, network, rewards):
    for count in (1, 7):
        given = tokens_task()
        given.batch_size = 3
        assert sampler(given, count).shape == (count, LENGTH)
        meter = given.meter
        assert (meter.network, meter.rewards, meter.decodes) == (network * count, rewards * count, rewards * count)


@pytest.mark.parametrize(
    "sampler", [BestOfN(), SMC(), SVDD(), RBF(starts=5), BackwardRollout(rollouts=2), DCBG()], ids=lambda s: type(s)
)
@pytest.mark.parametrize("calls", [36, 61, 100])
def test_a_budget_is_kept(sampler, calls):
    given = tokens_task(meter=Meter(budget=calls * 4))
    sampler.within(calls, 6, 4)(given, 4)
    assert calls / 2 < given.meter.network / 4 <= calls
    given.meter.budget = given.meter.network
    with pytest.raises(BudgetSpentError):
        sampler(given, 4)


@pytest.mark.parametrize(
    ("sampler", "calls"),
    [(BestOfN(), 36), (SMC(), 36), (SVDD(), 1 + 7 * 5), (RBF(starts=5), 37), (DCBG(), 6 + 3 * 9)],
    ids=lambda value: type(value).__name__ if hasattr(value, "draw") else "",
)
def test_a_budget_that_divides_is_spent(sampler, calls):
    given = tokens_task(meter=Meter(budget=calls * 2))
    sampler.within(calls, 6, 2)(given, 2)
    assert given.meter.left == 0


@pytest.mark.parametrize(
    "sampler", [BestOfN(), SMC(), SVDD(), RBF(starts=5), BackwardRollout(rollouts=2), DCBG()], ids=lambda s: type(s)
)
def test_budgets_too_small_for_one_step_are_refused(sampler):
    with pytest.raises(ValueError, match="needs at least .* network calls per sample .* got a budget of 5: raise"):
        sampler.within(5, 6, 4)


def test_samples_do_not_depend_on_how_many_are_drawn():
    for sampler in (SVDD(3), RBF(20, 2), BackwardRollout(3, rollouts=2), DCBG()):
        few, many = (sampler(tokens_task(), count) for count in (2, 6))
        assert torch.equal(few, many[:2])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: BestOfN(0), "at least 1 particle, got 0"),
        (lambda: SMC(0), "at least 1 particle, got 0"),
        (lambda: BackwardRollout(0), "BackwardRollout needs at least 1 particle, got 0"),
        (lambda: DAS(0), "DAS needs at least 1 particle, got 0"),
        (lambda: LiDARSMC(Lookahead(2, 2), 0), "LiDARSMC needs at least 1 particle, got 0"),
        (lambda: BackwardRollout(rollouts=0), "at least 1, got 0"),
        (lambda: BackwardRollout(every=0), "at least 1, got 4 and 0"),
        (lambda: SVDD(0), "at least 1 child .* got 0"),
        (lambda: SVDD(select="worst"), "got 20 and 'worst'"),
        (lambda: RBF(starts=0), "at least 1 start, got 0"),
        (lambda: DCBG(-1.0), "at least 0, got -1.0"),
        (lambda: RBF(30, 25)(tokens_task(), 2), "at least 31 network calls .*25 starts .* budget of 30"),
        (lambda: DCBG(calls=14)(tokens_task(), 2), "at least 15 network calls .* 9 neighbours .* budget of 14"),
        (lambda: DCBG()(task(FIVE, LINEAR), 2), "samples of 'mixture' are continuous: use SMC, SVDD or LiDAR"),
        (lambda: ValueModule((2,), target="median"), "'soft' or 'mean', got 'median'"),
        (lambda: rollouts(tokens_task(1), 5), "at least 2 steps, got 5 of 1"),
    ],
)
def test_bad_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_deterministic_solvers_are_refused():
    import diffusers

    euler = SchedulerSolver(diffusers.FlowMatchEulerDiscreteScheduler(), 8)
    still = [GaussianAncestral(FIVE_FLOW.schedule, 8, eta=0.0), FlowSDE(FIVE_FLOW.schedule, 8, scale=0.0), euler]
    particles = (SMC(), DAS(), DAS(derivative_free=True), BackwardRollout(), LiDARSMC(Lookahead(4, 3)))
    for sampler in (RBF(60, 4), SVDD(4), *particles):
        for solver in still:
            given = Task(FIVE_FLOW, solver, LINEAR)
            with pytest.raises(ValueError, match="deterministic: use the solver GaussianAncestral with eta > 0"):
                sampler(given, 2)
            assert given.meter.network == 0
        for solver in (GaussianAncestral(FIVE_FLOW.schedule, 8), FlowSDE(FIVE_FLOW.schedule, 8)):
            sampler(Task(FIVE_FLOW, solver, LINEAR), 2)
    sure = SimpleNamespace(name="Sure", times=TOKENS.solver(6).times, begin=lambda noise: noise)
    for sampler in (SMC(), SVDD(4), DCBG(), BackwardRollout(), RBF(60, 4)):
        given = Task(TOKENS, sure, TABLE)
        with pytest.raises(ValueError, match="those of Sure are deterministic: use the solver Ancestral"):
            sampler(given, 2)
        assert given.meter.network == 0


class Broken(ParticleSampler):
    """Its twists become NaN halfway."""

    def twist(self, task, x_t, x0_hat, i):
        return torch.full((len(x_t),), torch.nan if i == 3 else 0.0, dtype=torch.float64)


@pytest.mark.parametrize(
    ("sampler", "reward", "message"),
    [
        (SMC(), CallableReward(lambda samples, _: [math.nan] * len(samples), name="broken"), "'broken': 8 of 8 scores"),
        (SVDD(3), CallableReward(lambda samples, _: [math.inf] * len(samples), name="broken"), "'broken': 6 of 6"),
        (Broken(), TABLE, "resampled in 2 of 2 groups: a log-weight is NaN or infinite"),
        (SVDD(3, value=lambda x, t: t * torch.nan), TABLE, "6 of 6 values of children are NaN or infinite"),
        (SVDD(3, "best", value=lambda x, t: t / 0), TABLE, "6 of 6 values of children are NaN or infinite"),
    ],
)
def test_what_is_not_a_number_is_named(sampler, reward, message):
    with pytest.raises(ValueError, match=message):
        sampler(task(TOKENS, reward, 1.0, 6), 2)


# Learned values


def test_rollouts_pair_states_with_where_they_end():
    """The last states are one step from the end, and the rewards of equal last states average to what they promise."""
    given = tokens_task()
    x, t, value = rollouts(given, 3000).tensors
    assert x.shape == (3000 * 5, LENGTH) and given.meter.network == 3000 * 6 and given.meter.rewards == 3000
    times = TOKENS.solver(6).times[1:-1]
    assert torch.equal(t.view(3000, 5), times.expand(3000, 5))
    assert (value.view(3000, 5) == value.view(3000, 5)[:, :1]).all()
    states = (x @ torch.tensor([16, 4, 1])).view(3000, 5)
    law = np.full(64, 1 / 64)
    for i in range(5):
        law = law @ CHAIN.matrices[i]
        mean, std = noise(law, 3000)
        found = np.bincount(states[:, i], minlength=64) / 3000
        assert total_variation(found, law) < mean + 4 * std


@pytest.mark.parametrize("target", ["soft", "mean"])
def test_a_learned_value_finds_the_true_one(target):
    torch.manual_seed(0)
    module = ValueModule((LENGTH,), VOCAB, target=target, lr=3e-3)
    loader = DataLoader(rollouts(tokens_task(), 2000), batch_size=500, shuffle=True)
    trainer = L.Trainer(
        max_epochs=12, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, loader)
    truth = CHAIN.soft_values()
    if target == "mean":
        truth = [REWARD]
        for matrix in CHAIN.matrices[::-1]:
            truth.insert(0, matrix @ truth[0])
    states, law = torch.from_numpy(STATES), np.full(64, 1 / 64)
    for i, t in enumerate(TOKENS.solver(6).times.tolist()[1:-1], 1):
        law = law @ CHAIN.matrices[i - 1]
        with torch.no_grad():
            value = module(states, torch.full((64,), t, dtype=torch.float64)).numpy()
        error = np.sqrt(law @ (value - truth[i]) ** 2)
        assert error < 0.3
    plain, guided = (TABLE(s(tokens_task(), 300), []).mean() for s in (SVDD(1), SVDD(8, value=module)))
    assert guided > plain + 0.5


@pytest.mark.parametrize("shape", [(2,), (5, 4), (3, 16, 16)])
def test_values_of_continuous_data(shape):
    module = ValueModule(shape, width=8)
    x, t = torch.randn(3, *shape), torch.rand(3, dtype=torch.float64)
    loss = module.loss(module(x, t), torch.ones(3, dtype=torch.float64))
    assert module(x, t).shape == (3,) and loss.isfinite()
