"""`lidar compare`: equal budgets, resume, shared work, tables, and a new sampler in a few lines."""

import copy
import json
import shutil
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from scipy import stats

from benchmarks.compare import comparison_table, over_vanilla
from lidar_lightning import UDLM, Lookahead, ValueModule
from lidar_lightning.rewards import QED, CallableReward, Combined, RingCount, SyntheticAccessibility
from lidar_lightning.runs.comparison import Comparison, compare
from lidar_lightning.runs.folder import RunFolder
from lidar_lightning.runs.intervals import interval
from lidar_lightning.samplers import SMC, SVDD, BestOfN, LiDAR, Planned
from lidar_lightning.utils.describe import describe

SAMPLERS = {"best-of-n": BestOfN(), "smc": SMC(every=2), "lidar": LiDAR(Lookahead(2, 4))}


def settings(model, out, **changes):
    # Of QM9 the canonical forms would take longer than all the rest.
    training = Path(out) / "training.txt"
    training.parent.mkdir(exist_ok=True)
    training.write_text("CCO\nC1CC1\n")
    given = {"samplers": SAMPLERS, "prompts": "m", "samples": 3, "steps": 4, "budgets": [8, 16], "seeds": [0, 1]}
    given |= {"out": str(out), "training_data": str(training)}
    return {"backbone": model, "reward": RingCount(), "metrics": [QED()], **given, **changes}


def test_every_row_keeps_its_budget(model, tmp_path):
    report = compare(**settings(model, tmp_path))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert list(summary["methods"]) == ["vanilla"] + [f"{name} @ {b}" for b in (8, 16) for name in SAMPLERS]
    assert summary["methods"]["vanilla"]["calls"] == 4
    keeps = {row.split(" @")[0]: numbers["keep"] for row, numbers in summary["methods"].items()}
    assert keeps == {"vanilla": "plain", "best-of-n": "best", "smc": "draw", "lidar": "draw"}
    for row, numbers in summary["methods"].items():
        if row != "vanilla":
            assert 0.95 * int(row.split("@ ")[1]) <= numbers["calls"] <= int(row.split("@ ")[1])
        assert numbers["nfe"] == numbers["calls"]
        assert {"reward", "qed_mean"} & numbers.keys() and numbers["backward"] == 0 and numbers["peak_mib"] > 0
        table = pd.read_csv(tmp_path / row / "samples.csv")
        assert len(table) == 3 and {"ring_count", "qed"} <= set(table)
    assert len(summary["curves"]["reward"]["smc"]) == 2 and "qed" in summary["curves"]
    page = Path(report).read_text()
    assert "Equal compute" in page and "smc @ 16" in page
    shown = comparison_table(summary)
    assert shown["method"].iloc[0] == "vanilla" and set(shown.index) == set(summary["methods"])
    for row, numbers in summary["methods"].items():
        middle, half = map(float, shown.loc[row, "reward"].split(" ± "))
        assert abs(middle - numbers["reward"]) < 6e-4 and abs(half - numbers["reward_ci95"]) < 6e-4


@pytest.mark.parametrize(
    ("higher", "order"), [(True, ["b @ 8", "a @ 8", "a @ 16"]), (False, ["a @ 8", "b @ 8", "a @ 16"])]
)
def test_table_puts_the_best_of_each_budget_first(higher, order):
    rewards = {"vanilla": 1.5, "a @ 8": 1.0, "b @ 8": 2.0, "a @ 16": 3.0}
    curves = {"vanilla": [[4, 1.5, None, None]], "a": [[8, 1.0, 0.5, 1.5], [16, 3.0, 2, 4]], "b": [[8, 2.0, 1, 3]]}
    summary = {"reward_name": "r", "higher_is_better": higher, "curves": {"reward": curves}}
    rows = {row: {"reward": value, "keep": "draw", "excess_nelbo": None} for row, value in rewards.items()}
    rows["a @ 8"]["excess_nelbo"] = 0.25
    shown = comparison_table({**summary, "methods": rows})
    assert shown.loc["a @ 8", "excess_nelbo"] == "0.25" and shown.loc["vanilla", "excess_nelbo"] == ""
    assert list(shown.index) == ["vanilla", *order] and shown.loc["a @ 16", "reward"] == "3.000 ± 1.000"
    assert shown.loc["vanilla", "reward"] == "1.500"
    rows["a @ 8"]["keep"] = rows["b @ 8"]["keep"] = "best"
    rows |= {"c @ 8": {"reward": 9.0, "keep": "draw"}}
    curves["c"] = [[8, 9.0, 8.0, 10.0]]
    shown = comparison_table({**summary, "methods": rows})
    assert list(shown.index) == ["vanilla", *order[:2], "c @ 8", "a @ 16"]
    assert list(shown["keep"]) == ["draw", "best", "best", "draw", "draw"]


def test_gains_over_vanilla_are_of_the_same_prompt_and_seed(tmp_path):
    for home, values in {"vanilla": (0, 10), "own @ 8": (1, 13), "s/vanilla": (5, 20), "s/own @ 8": (7, 23)}.items():
        (tmp_path / home).mkdir(parents=True)
        pd.DataFrame({"prompt": ["a", "b"], "r": values}).to_csv(tmp_path / home / "samples.csv")
    # Gains 1 and 2 of one prompt, 3 and 3 of the other: two means, 1.5 and 3, whose t has one degree of freedom.
    half = stats.t.ppf(0.975, 1) * 0.75
    assert over_vanilla(tmp_path, ["r"]).to_dict() == {"r over vanilla": {"own @ 8": f"+2.250 ± {half:.3f}"}}
    shutil.rmtree(tmp_path / "s")
    for home in ("vanilla", "own @ 8"):
        pd.DataFrame({"prompt": ["a"], "r": [2]}).to_csv(tmp_path / home / "samples.csv")
    assert over_vanilla(tmp_path, ["r"]).to_dict() == {"r over vanilla": {"own @ 8": "+0.000"}}


def test_it_goes_on_where_it_stopped(model, tmp_path, monkeypatch):
    left = Comparison(**settings(model, tmp_path))
    plain, drawn = Comparison.draw, []

    def stopped(self, cell, prompt):
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(cell)
        return plain(self, cell, prompt)

    monkeypatch.setattr(Comparison, "draw", stopped)
    with pytest.raises(KeyboardInterrupt):
        left.work()
    monkeypatch.undo()
    again = []
    monkeypatch.setattr(Comparison, "draw", lambda self, cell, prompt: again.append(cell) or plain(self, cell, prompt))
    compare(**settings(model, tmp_path))
    assert len(again) == len(left.cells) - 3 and not set(drawn) & set(again)
    compare(**settings(model, tmp_path / "whole"))
    rows = [json.loads((tmp_path / at / "summary.json").read_text())["methods"] for at in (".", "whole")]
    assert all(rows[0][row]["reward"] == rows[1][row]["reward"] for row in rows[0])
    with pytest.raises(ValueError, match="holds a run of other settings .*temperature"):
        compare(**settings(model, tmp_path, temperature=2.0))


def test_finished_work_is_looked_for_once(model, tmp_path, monkeypatch):
    """A part is looked for twice before it is drawn, once if it is there; the weights are read once."""
    looks, prints = Counter(), []
    get, fingerprint = RunFolder.get, UDLM.fingerprint
    monkeypatch.setattr(
        RunFolder, "get", lambda run, prompt, rows: looks.update([(run.folder, prompt)]) or get(run, prompt, rows)
    )
    monkeypatch.setattr(UDLM, "fingerprint", lambda self: prints.append(self) or fingerprint(self))
    changes = {"samplers": {"best-of-n": BestOfN()}, "prompts": ["a", "b"], "budgets": [8], "seeds": [0, 1, 2]}
    for most in (2, 1):
        comparison = Comparison(**settings(model, tmp_path, **changes))
        comparison.work()
        assert len(looks) == 2 * 2 * 3 and set(looks.values()) == {most} and len(prints) == 1
        assert not list(comparison.shared.pending()) and set(looks.values()) == {most}
        looks.clear(), prints.clear()


def test_a_combination_compares_methods(model, tmp_path):
    """Its scale is that of all samples of a prompt; by its own scale every method would have the mean 0."""
    bonds = CallableReward(lambda samples, _: [s.count("=") for s in samples], name="bonds", higher_is_better=False)
    reward = Combined([CallableReward(lambda samples, _: [len(s) for s in samples], name="length"), bonds])
    compare(**settings(model, tmp_path, reward=reward, prompts=["a", "b"], metrics=None, budgets=[8]))
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["reward_name"] == "sum(length,bonds)"
    rows = list(summary["methods"])
    table = pd.concat(
        pd.read_csv(tmp_path / seed / row / "samples.csv").assign(row=row) for seed in ("", "seed-1") for row in rows
    )
    normal = table.groupby("prompt")[["length", "bonds"]].transform(lambda c: (c - c.mean()) / c.std(ddof=0))
    table["expected"] = normal["length"] - normal["bonds"]
    assert table["sum(length,bonds)"].to_numpy() == pytest.approx(table["expected"].to_numpy(), abs=1e-5)
    means = table.groupby("row")["expected"].mean()
    assert means.max() - means.min() > 0.1
    for row, mean in means.items():
        assert summary["methods"][row]["reward"] == pytest.approx(mean, abs=1e-5)
        method = row.split(" @ ")[0]
        assert any(point[1] == pytest.approx(mean, abs=1e-5) for point in summary["curves"]["reward"][method])


def test_a_reward_that_is_better_when_lower_keeps_its_sign(model, tmp_path):
    compare(**settings(model, tmp_path, reward=SyntheticAccessibility(), seeds=[0, 1], budgets=[8]))
    summary = json.loads((tmp_path / "summary.json").read_text())
    for row, numbers in summary["methods"].items():
        seeds = [pd.read_csv(tmp_path / seed / row / "samples.csv")["sa"].mean() for seed in ("", "seed-1")]
        mean, half = sum(seeds) / 2, stats.t.ppf(0.975, 1) * abs(seeds[0] - seeds[1]) / 2
        ((_, *found),) = summary["curves"]["reward"][row.split(" @ ")[0]]
        assert numbers["reward"] == pytest.approx(mean, rel=1e-5) and mean > 0
        assert found == pytest.approx([mean, mean - half, mean + half], rel=1e-4, abs=1e-5)
        assert numbers["reward_ci95"] == pytest.approx(half, rel=1e-4, abs=1e-5)
    assert summary["higher_is_better"] is False


def test_samples_that_share_a_bank_have_no_interval_of_their_own(model, tmp_path):
    """One prompt and one seed are one bank, however many samples it guides."""
    page = compare(**settings(model, tmp_path, seeds=[0], budgets=[8], samples=6))
    text = (tmp_path / "summary.json").read_text()
    summary = json.loads(text)
    assert "NaN" not in text and all(numbers["reward_ci95"] is None for numbers in summary["methods"].values())
    assert all(point[2:] == [None, None] for line in summary["curves"]["reward"].values() for point in line)
    assert "Equal compute" in Path(page).read_text() and "±" not in comparison_table(summary)["reward"].sum()


def test_learned_values_are_told_apart_by_their_weights(model, tmp_path):
    first, second = (ValueModule((12,), model.vocab_size, width=4) for _ in range(2))
    kept = [describe(SVDD(value=value)) for value in (first, copy.deepcopy(first), second)]
    assert kept[0] == kept[1] != kept[2] and kept[0]["class"] == "SVDD"
    assert describe(Lookahead(2, 4, model))["backbone"]["fingerprint"] == model.fingerprint()
    qed = {"name": "qed", "version": QED().version, "higher_is_better": True}
    assert describe([QED(), interval, {"a": None}]) == [qed, "lidar_lightning.runs.intervals:interval", {"a": None}]
    assert json.dumps(kept)
    changes = {"samplers": {"svdd": SVDD(value=first)}, "budgets": [8], "seeds": [0]}
    Comparison(**settings(model, tmp_path, **changes)).work()
    with pytest.raises(ValueError, match="holds a run of other settings .*fingerprint"):
        Comparison(**settings(model, tmp_path, **changes | {"samplers": {"svdd": SVDD(value=second)}})).work()


def test_pilots_are_reported_and_do_not_depend_on_what_is_drawn_first(model, tmp_path):
    rows = {}
    for seeds in ((0, 1), (1, 0)):
        choices = {str(steps): LiDAR(Lookahead(steps), steps=2) for steps in (1, 2)} | {"best": BestOfN()}
        planned = Planned(choices, ["pilot"], repetitions=1, references=4)
        given = {"samplers": {"planned": planned}, "budgets": [8], "seeds": list(seeds), "metrics": []}
        compare(**settings(model, tmp_path / str(seeds), **given))
        rows[seeds] = json.loads((tmp_path / str(seeds) / "summary.json").read_text())["methods"]["planned @ 8"]
    assert all(rows[0, 1][key] == rows[1, 0][key] for key in ("reward", "calls", "pilot_calls"))
    assert 7.6 <= rows[0, 1]["calls"] <= 8 and rows[0, 1]["pilot_calls"] > 4 * 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samplers": {}}, "needs samplers"),
        ({"samplers": {"vanilla": BestOfN()}}, "none of them called 'vanilla'"),
        ({"budgets": []}, "budgets and seeds"),
        ({"budgets": [3]}, "best-of-N needs at least 4 network calls per sample .* got a budget of 3"),
        ({"prompts": [""]}, "prompts must not be empty"),
    ],
)
def test_bad_input_is_named(model, tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        compare(**settings(model, tmp_path, **changes))
