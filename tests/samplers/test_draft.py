"""Draft, then finish: its law by enumeration, and that it makes plain samples and no others."""

import numpy as np
import pytest
import torch

from lidar_lightning.samplers import BestOfN, DraftThenFinish, Task
from lidar_lightning.samplers.ahead import ahead
from lidar_lightning.solvers import GaussianAncestral
from tests.exact import FIVE, FIVE_FLOW, TABLE, TOKENS, Quadratic, task
from tests.pictures import BRIGHTNESS, backbone
from tests.token_laws import CHAIN, REWARD, best_of, has_law, matrix, tokens_task

QUADRATIC = Quadratic(FIVE.means[0])


def run(law, matrices):
    for one in matrices:
        law = law @ one
    return law


@pytest.mark.parametrize(("at", "place"), [(1.0, 0), (0.5, 3), (0.1, 5)])
def test_drafts_of_one_step_have_their_law(at, place):
    """The best of three states at that time, by the reward of their prediction, goes on."""
    law = best_of(run(np.full(64, 1 / 64), CHAIN.matrices[:place]), CHAIN.values[place], 3)
    x = DraftThenFinish(3, 1, at, pooled=False)(tokens_task(), 2000)
    assert has_law(x, run(law, CHAIN.matrices[place:]))


@pytest.mark.parametrize(("at", "place", "after"), [(1.0, 0, 3), (0.5, 3, 4)])
def test_drafts_of_two_steps_have_their_law(at, place, after):
    """A draft is a pair: the state x that goes on, and the state y of which the prediction is scored."""
    start = run(np.full(64, 1 / 64), CHAIN.matrices[:place])
    pairs = start[:, None] * matrix(1 - place / 6, 1 - after / 6)
    chosen = best_of(pairs.flatten(), np.tile(CHAIN.values[after], 64), 2).reshape(64, 64).sum(1)
    x = DraftThenFinish(2, 2, at, pooled=False)(tokens_task(), 2000)
    assert has_law(x, run(chosen, CHAIN.matrices[place:]))


@pytest.mark.parametrize("at", [1.0, 0.6, 0.01])
@pytest.mark.parametrize(("model", "reward"), [(TOKENS, TABLE), (FIVE, QUADRATIC), (FIVE_FLOW, QUADRATIC)])
def test_what_is_finished_are_plain_samples(model, reward, at):
    plain = BestOfN(1)(task(model, reward, 1.0, 7), 12)
    given = task(model, reward, 1.0, 7)
    given.batch_size = 5
    drafts = DraftThenFinish(3, 2, at)
    found = drafts(given, 4)
    assert {tuple(row) for row in found.tolist()} <= {tuple(row) for row in plain.tolist()}
    assert given.meter.network == drafts.cost(7, 4) and given.meter.rewards == 12
    each = DraftThenFinish(3, 2, at, pooled=False)(task(model, reward, 1.0, 7), 4)
    assert all(row in group for row, group in zip(each.tolist(), plain.view(4, 3, -1).tolist(), strict=True))


@pytest.mark.parametrize("at", [1.0, 0.5])
def test_pictures_of_a_deterministic_solver_are_finished_from_their_own_noise(at):
    model = backbone()
    tasks = [Task(model, model.solver(4), BRIGHTNESS, "a cat") for _ in range(2)]
    plain = BestOfN(1)(tasks[0], 3)
    (found,) = DraftThenFinish(3, 2, at)(tasks[1], 1)
    assert min((found - row).abs().max().item() for row in plain) < 1e-5


def test_one_draft_is_no_choice():
    for model, reward in ((TOKENS, TABLE), (FIVE, QUADRATIC)):
        given = task(model, reward, 1.0, 6)
        assert torch.equal(DraftThenFinish(1, at=0.5)(given, 4), BestOfN(1)(task(model, reward, 1.0, 6), 4))
        assert (given.meter.network, given.meter.rewards) == (24, 0)


@pytest.mark.parametrize("model", [FIVE, FIVE_FLOW])
def test_drafts_in_full_are_best_of_n(model):
    """Of a deterministic solver a draft with all its steps is the sample itself."""
    tasks = [Task(model, GaussianAncestral(model.schedule, 6, eta=0.0), QUADRATIC, batch_size=100) for _ in range(2)]
    torch.testing.assert_close(DraftThenFinish(3, 6)(tasks[0], 4), BestOfN(3)(tasks[1], 4))


def test_looking_ahead_comes_closer_with_more_steps():
    """DDIM of first order, from the middle of a run: the error falls like 1 / steps."""
    exact, errors = task(FIVE, QUADRATIC, 1.0, 640), []
    x = exact.start(exact.generators(50))
    place, t = 128, exact.steps[128][0]
    x0_hat = exact.predict(x, t)
    ends = [ahead(exact, x, x0_hat, place, steps, None) for steps in (8, 16, 32, 512)]
    errors = [(end - ends[-1]).norm(dim=1).median().item() for end in ends[:-1]]
    assert errors[0] / errors[1] > 1.6 and errors[1] / errors[2] > 1.6
    assert torch.equal(ahead(exact, x, x0_hat, place, 1, None), x0_hat)


def test_drafts_that_leave_later_choose_better():
    def mean(at):
        return TABLE(DraftThenFinish(4, 2, at)(tokens_task(), 500), []).mean().item()

    assert mean(1.0) + 0.1 < mean(0.3) < REWARD.max()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DraftThenFinish(0), "at least 1 particle, got 0"),
        (lambda: DraftThenFinish(draft_steps=0), "draft_steps must be at least 1 and at in .* got 0 and 1.0"),
        (lambda: DraftThenFinish(at=0.0), "at in .* got 4 and 0.0"),
        (lambda: DraftThenFinish(1.5, pooled=False), "a whole number for each sample, got n=1.5"),
        (
            lambda: DraftThenFinish().within(10, 6, 1),
            "needs at least 13 network calls .* more drafts than are finished",
        ),
    ],
)
def test_bad_settings_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()
