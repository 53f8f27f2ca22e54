"""What a reward may be called, is given, may return and may not do."""

import logging
import math
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from lidar_lightning import LiDARModule
from lidar_lightning.rewards import QED, CallableReward, Combined, Reward, score, scored_rewards
from lidar_lightning.runs.comparison import Comparison
from lidar_lightning.samplers import BestOfN
from lidar_lightning.utils.chunks import in_chunks
from tests.conftest import carbons, tiny
from tests.modules.test_lidar_module import configuration
from tests.test_cli import failing

SAMPLES, PROMPTS = ["C", "CC", "N"], ["a", "b", "c"]


def named(name, values=None):
    return CallableReward(lambda samples, prompts: values or [0.0] * len(samples), name=name)


# It is given copies


def greedy(samples, prompts):
    scores = [float(len(text)) for text in samples]
    samples[:] = ["edited"] * len(samples)
    prompts.clear()
    return scores


def test_a_reward_that_edits_strings_and_prompts_edits_copies():
    samples, prompts = list(SAMPLES), list(PROMPTS)
    reward = Combined([CallableReward(greedy), CallableReward(carbons)])
    assert torch.equal(score(reward, samples, prompts), score(reward, samples, prompts))
    assert (samples, prompts) == (SAMPLES, PROMPTS)


class Dark(Reward):
    name = "dark"

    def __call__(self, samples, prompts):
        samples *= 0
        return [0.0] * len(samples)


@pytest.mark.parametrize("reward", [Dark(), CallableReward(Dark())])
@pytest.mark.parametrize("samples", [torch.ones(3, 2), np.ones((3, 2))])
def test_a_reward_that_edits_pixels_edits_a_copy(samples, reward):
    score(reward, samples, PROMPTS)
    assert (samples == 1).all()


def test_gradients_pass_the_copy():
    pixels = torch.ones(2, 3, requires_grad=True)
    bright = CallableReward(lambda samples, prompts: samples.mul_(2).sum(1), differentiable=True)
    score(bright, pixels, ["", ""]).sum().backward()
    assert pixels.grad.tolist() == [[2.0] * 3] * 2 and pixels.detach().eq(1).all()


@pytest.mark.parametrize(
    "samples",
    [tuple(SAMPLES), np.array(SAMPLES), pd.Series(SAMPLES), pd.Series(SAMPLES, index=[7, 2, 0]), pd.Index(SAMPLES)],
)
def test_samples_of_any_sequence_are_scored_in_their_order(samples):
    by_place = CallableReward(lambda samples, prompts: [samples[i].count("C") for i in range(len(samples))])
    assert score(by_place, samples, PROMPTS).tolist() == [1, 2, 0]
    with pytest.raises(ValueError, match="the first for sample 2: 'N'"):
        score(CallableReward(lambda samples, prompts: [0, 0, math.nan]), samples, PROMPTS)


# Its name


@pytest.mark.parametrize("name", ["sample", "prompt", "index", "diversity", "nfe"])
def test_a_name_of_another_column_is_refused_at_once(name, tmp_path):
    with pytest.raises(ValueError, match=f"called '{name}', which is another column"):
        LiDARModule(tiny(), named(name))
    with pytest.raises(ValueError, match=f"called '{name}', which is another column"):
        LiDARModule(tiny(), QED(), metrics=[named(name)])
    with pytest.raises(ValueError, match=f"called '{name}', which is another column"):
        Comparison(tiny(), named(name), {"a": BestOfN()}, ["m"], str(tmp_path))


def test_a_metric_may_not_take_the_column_of_the_guiding_reward():
    with pytest.raises(ValueError, match="a metric is called 'reward'"):
        scored_rewards(QED(), [named("reward")])
    combined = Combined([QED(), named("a")])
    with pytest.raises(ValueError, match=r"a metric is called 'sum\(qed,a\)'"):
        scored_rewards(combined, [named("sum(qed,a)")])
    guiding = named("reward")
    assert scored_rewards(guiding, [guiding, QED()])[0] is guiding


def test_different_rewards_of_one_name_are_refused():
    same = [QED(), QED()]
    assert scored_rewards(same[0], same) == same[:1]
    for other in (QED(floor=-1), named("qed")):
        with pytest.raises(ValueError, match="two different rewards are called 'qed'"):
            scored_rewards(QED(), [other])


class Nameless(Reward):
    def __call__(self, samples, prompts):
        return [0.0] * len(samples)


class Blank(Nameless):
    name = " "


@pytest.mark.parametrize("reward", [Nameless(), Blank()])
def test_a_reward_needs_a_name(reward, bank):
    for use in (
        lambda: LiDARModule(tiny(), reward),
        lambda: score(reward, SAMPLES, PROMPTS),
        lambda: Combined([reward]),
        lambda: bank.scored([reward], list),
    ):
        with pytest.raises(ValueError, match='needs a name .*: write name = "..." in its class'):
            use()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (carbons, r"a reward must be a Reward, got a function carbons: wrap a function as CallableReward\(carbons\)"),
        (QED, r"a reward must be a Reward, got the class QED: make one, QED\(\)"),
        (3, "a reward must be a Reward, got a int: wrap a function"),
        (None, "a reward must be a Reward, got a NoneType"),
    ],
)
def test_what_is_no_reward_is_refused_at_once(given, message, bank, tmp_path):
    for use in (
        lambda: LiDARModule(tiny(), given),
        lambda: LiDARModule(tiny(), QED(), metrics=[given]),
        lambda: Comparison(tiny(), given, {"a": BestOfN()}, ["m"], str(tmp_path)),
        lambda: score(given, SAMPLES, PROMPTS),
        lambda: Combined([given]),
        lambda: bank.scored([given], list),
    ):
        with pytest.raises(ValueError, match=message):
            use()


def test_metrics_are_a_list():
    with pytest.raises(ValueError, match="metrics is a list of rewards, got QED"):
        LiDARModule(tiny(), QED(), metrics=QED())


# What it may not do


@pytest.mark.parametrize("leave", ["sys.exit()", "exit(0)", "raise SystemExit"])
@pytest.mark.parametrize("where", ["scoring", "import"])
def test_a_reward_that_exits_fails(capsys, tmp_path, monkeypatch, leave, where):
    call = f"import sys\n\ndef leaving(samples, prompts):\n    {leave}\n"
    (tmp_path / "my_leaving.py").write_text(call if where == "scoring" else f"import sys\n{leave}\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_leaving", raising=False)
    option = "--model.init_args.reward.init_args.path=my_leaving:leaving"
    error = failing(capsys, "predict", "-c", str(configuration(tmp_path, "run", samples=4)), option)
    expected = "reward 'leaving' failed on 30 samples: SystemExit" if where == "scoring" else "failed with SystemExit"
    assert expected in error


def test_an_interruption_is_no_failure_of_the_reward():
    def interrupted(samples, prompts):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        score(CallableReward(interrupted), SAMPLES, PROMPTS)


def test_a_reward_short_of_memory_is_given_fewer_samples(caplog):
    """The bank's batches shrink when memory runs out, in the reward as in the decoder."""

    def heavy(samples, prompts):
        if len(samples) > 2:
            raise torch.OutOfMemoryError("full")
        return [float(sample) for sample in samples]

    reward, samples = CallableReward(heavy), [str(i) for i in range(5)]
    with caplog.at_level(logging.WARNING):
        parts = in_chunks(lambda start, stop: score(reward, samples[start:stop], [""] * (stop - start)), 5)
    assert torch.cat(parts).tolist() == [0, 1, 2, 3, 4]


def test_a_module_that_fails_to_import_is_named(tmp_path, monkeypatch):
    (tmp_path / "my_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="importing 'my_broken:f' failed with ZeroDivisionError"):
        CallableReward("my_broken:f")


def test_the_command_line_names_a_reserved_name(capsys, tmp_path):
    option = "--model.init_args.reward.init_args.name=prompt"
    error = failing(capsys, "predict", "-c", str(configuration(tmp_path, "run", samples=4)), option)
    assert "called 'prompt', which is another column" in error and not (tmp_path / "run").exists()
