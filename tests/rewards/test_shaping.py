"""Shapes against their formulas at points by hand, means against numpy, and what is stored of both."""

import math

import numpy as np
import pytest
import torch

from lidar_lightning.rewards import (
    QED,
    CallableReward,
    Combined,
    HeavyAtoms,
    LogP,
    Mean,
    Parallel,
    Peak,
    Ramp,
    RingCount,
    Step,
    Substructure,
    SyntheticAccessibility,
    Validity,
    score,
    scored_rewards,
)

STRINGS = ["C", "CC", "CCO", "CCCC", "c1ccccc1", "C1CC", ""]
ATOMS = [1, 2, 3, 4, 6]


def scores(reward, strings=STRINGS):
    return score(reward, strings, [""] * len(strings)).tolist()


@pytest.mark.parametrize(
    ("reward", "wanted"),
    [
        (Peak(HeavyAtoms(), 3, 2), [math.exp(-((n - 3) ** 2) / 8) for n in ATOMS]),
        (Peak(HeavyAtoms(), 3, 2, "below"), [1, 1, 1, math.exp(-1 / 8), math.exp(-9 / 8)]),
        (Peak(HeavyAtoms(), 3, 2, "above"), [math.exp(-4 / 8), math.exp(-1 / 8), 1, 1, 1]),
        (Ramp(HeavyAtoms(), 2, 4), [0, 0, 0.5, 1, 1]),
        (Ramp(HeavyAtoms(), 4, 2), [1, 1, 0.5, 0, 0]),
        (Step(HeavyAtoms(), 2, 4), [0, 1, 1, 1, 0]),
        (Step(HeavyAtoms(), low=3), [0, 0, 1, 1, 1]),
        (Step(HeavyAtoms(), high=3), [1, 1, 1, 0, 0]),
    ],
)
def test_shapes_by_hand(reward, wanted):
    """Invalid strings get the floor, although the count of their atoms, 0, is within some of the shapes."""
    assert scores(reward) == pytest.approx([*wanted, 0, 0])
    kinds = {"floor": -1.0, **({"side": reward.side} if isinstance(reward, Peak) else {})}
    numbers = [value for value in reward.settings.values() if not isinstance(value, str)]
    floored = type(reward)(HeavyAtoms(), *(None if math.isinf(n) else n for n in numbers), **kinds)
    assert scores(floored)[-2:] == [-1, -1] and floored.identity != reward.identity


def test_a_shape_takes_scores_as_they_are():
    """SA is better when lower; a ramp from 10 to 1 says how much."""
    easy = Ramp(SyntheticAccessibility(), 10, 1)
    plain = scores(SyntheticAccessibility())
    assert scores(easy)[:5] == pytest.approx([(10 - value) / 9 for value in plain[:5]])
    assert (
        easy.higher_is_better
        and easy.name == "ramp(sa,10,1)"
        and Peak(LogP(), 1.5, 1, "above").name == ("peak(logp,1.5,1,above)")
    )


def test_banks_keep_the_scores_beneath():
    first, second = Ramp(LogP(), 0, 3), Ramp(LogP(), 0, 5)
    assert [part.name for part in first.parts] == ["logp", "validity"]
    stored = {part.name: score(part, STRINGS, [""] * len(STRINGS)) for part in first.parts}
    assert second.from_scores(stored).tolist() == scores(second)
    assert [one.name for one in scored_rewards(first, [QED(), LogP()])] == ["logp", "validity", "qed"]
    assert first.described() != second.described() and first.identity != second.identity


def test_shapes_of_pictures_have_no_floor_and_keep_gradients():
    bright = CallableReward(
        lambda samples, prompts: samples.mean((1, 2, 3)), name="bright", differentiable=True, modality="image"
    )
    pixels = torch.full((2, 3, 4, 4), 0.25, requires_grad=True)
    peak = Peak(bright, 0.5, 0.5)
    assert peak.parts == [bright] and peak.differentiable and not Step(bright, 0, 1).differentiable
    found = peak(pixels, ["", ""])
    assert found.tolist() == pytest.approx([math.exp(-1 / 8)] * 2)
    found.sum().backward()
    assert (pixels.grad > 0).all()


def test_means_against_numpy():
    rewards = [QED(), Ramp(HeavyAtoms(), 0, 10), Substructure("C")]
    rows = np.array([scores(reward) for reward in rewards])
    assert scores(Mean(rewards)) == pytest.approx(rows.prod(0) ** (1 / 3), abs=1e-6)
    weights = [1.0, 2.0, 0.5]
    weighted = np.average(rows, axis=0, weights=weights)
    assert scores(Mean(rewards, "arithmetic", weights)) == pytest.approx(weighted, abs=1e-6)
    powers = np.prod(rows ** (np.array(weights) / 3.5)[:, None], 0)
    assert scores(Mean(rewards, weights=weights)) == pytest.approx(powers, abs=1e-6)
    assert scores(Mean(rewards))[-1] == 0, "an invalid string has the floors of all"


def test_a_mean_stores_each_part_once_and_shows_what_it_weighs():
    mean = Mean([Ramp(LogP(), 0, 3), Step(LogP(), high=2), QED()])
    assert [part.name for part in mean.parts] == ["logp", "validity", "qed"]
    assert [one.name for one in mean.components] == ["ramp(logp,0,3)", "step(logp,-inf,2)", "qed"]
    assert mean.name == "geometric(ramp(logp,0,3),step(logp,-inf,2),qed)" and not mean.relative
    assert QED().components[0].name == "qed" and len(Combined([QED(), LogP()]).components) == 2
    assert Mean([QED()], weights=[2.0]).identity != Mean([QED()]).identity
    assert len(scored_rewards(mean, [Validity()])) == 3


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Peak(LogP(), 0, 0), "a width above 0, got 0 and 0"),
        (lambda: Peak(LogP(), 0, 1, "left"), "'both', 'below' or 'above', got 'left'"),
        (lambda: Ramp(LogP(), 1, 1), "from one finite number to another, got 1 and 1"),
        (lambda: Step(LogP()), "got low=None and high=None"),
        (lambda: Step(LogP(), 2, 1), "got low=2 and high=1"),
        (lambda: Peak(Combined([LogP(), QED()]), 0, 1), "is relative to the samples"),
        (lambda: Mean([Combined([LogP(), QED()])]), "is relative to the samples"),
        (lambda: Mean([]), "one or more rewards"),
        (lambda: Mean([QED(), QED()]), "distinct names"),
        (lambda: Mean([QED()], "harmonic"), "got 'harmonic'"),
        (lambda: Mean([QED()], weights=[0.0]), "one positive weight"),
        (lambda: Mean([Ramp(LogP(), 0, 1), LogP(-9)]), "two different rewards in .* are called 'logp'"),
        (lambda: scores(Mean([LogP()])), "'logp' is below 0, of which there is no geometric mean"),
        (lambda: Peak("logp", 0, 1), "a reward must be a Reward"),
        (lambda: Parallel(Ramp(LogP(), 0, 1)), "is several rewards"),
        (lambda: Parallel(LogP(), 0), "got 0 and 64"),
    ],
)
def test_what_makes_no_sense_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_scores_do_not_depend_on_processes():
    plain, parallel = SyntheticAccessibility(), Parallel(SyntheticAccessibility(), processes=2, chunk=16)
    strings = ["C" * n + "O" for n in range(1, 60)] + STRINGS
    assert scores(parallel, strings) == scores(plain, strings) and parallel._pool is not None
    assert parallel.identity == plain.identity and parallel.described() == plain.described()
    assert (parallel.name, parallel.higher_is_better, parallel.modality) == ("sa", False, "molecule")
    assert Parallel(RingCount())([*STRINGS], [""] * 7).tolist() == scores(RingCount()), "few are not worth processes"
    with pytest.raises(ValueError, match="'sa' scores molecules"):
        score(parallel, [1] * 60, [""] * 60)
    parallel._pool.shutdown()
