"""Rounds on tiny models: what they leave, what they count, and that a killed run ends as an undisturbed one."""

import json
import shutil

import pandas as pd
import pytest
import torch
import yaml

from lidar_lightning import Lookahead, LookaheadBank, StableDiffusion
from lidar_lightning.cli import main
from lidar_lightning.guidance.settings import LiDARSettings
from lidar_lightning.modules.checkpoints import save_last
from lidar_lightning.modules.dpo import DPOModule
from lidar_lightning.rewards import CallableReward, Combined, Validity
from lidar_lightning.runs.folder import RunFolder
from lidar_lightning.runs.pool import best, joined
from lidar_lightning.samplers.restart import place_of
from lidar_lightning.utils.tables import read_csv
from recipes import rounds as module
from recipes.rounds import Rounds, rounds
from tests.conftest import carbons, tiny
from tests.pipelines import build

SMALL = {"rounds": 2, "samples": 10, "steps": 4, "keep": 6, "tuning_steps": 4, "pairs": 32, "batch_size": 8}


def settings(out, **changed):
    (out.parent / "training.txt").write_text("CCO\n")
    given = {
        "backbone": tiny(), "reward": CallableReward(carbons, name="carbons"), "metrics": [Validity()],
        "lookahead": Lookahead(3, 12), "guidance": LiDARSettings(ess=0.5, restart=0.6), "lr": 1e-2,
        "training_data": str(out.parent / "training.txt"), "out": str(out),
    }  # fmt: skip
    return {**given, **SMALL, **changed}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An undisturbed run."""
    out = tmp_path_factory.mktemp("rounds") / "run"
    rounds(**settings(out))
    return out


def weights(folder):
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


def same(one, other):
    """Whether two runs found the same: all that was scored, the numbers of all stages, and the weights."""
    assert (one / "scores" / "carbons.csv").read_text() == (other / "scores" / "carbons.csv").read_text()
    for name in ("rounds.csv", "curve.csv"):
        tables = [read_csv(folder / name) for folder in (one, other)]
        pd.testing.assert_frame_equal(*(t.drop(columns=[c for c in t if "seconds" in c]) for t in tables))
    for name, value in weights(one).items():
        torch.testing.assert_close(weights(other)[name], value, rtol=1e-5, atol=1e-7)


def test_a_run_leaves_tables_curves_and_weights(whole):
    table, curve = read_csv(whole / "rounds.csv"), read_csv(whole / "curve.csv")
    scored = read_csv(whole / "scores" / "carbons.csv", dtype={"sample": str})
    assert list(table["round"]) == ["round-1", "round-2"] and list(curve["samples"]) == ["policy", "guided"] * 2
    assert table["scoring_calls"].iloc[-1] == len(scored) == len(scored[["prompt", "sample"]].drop_duplicates())
    assert scored["score"].tolist() == [text.count("C") for text in scored["sample"]]
    times = tiny().solver(4).times
    each = 12 * 3 + 10 * (4 - place_of(times, 0.6))
    assert table["network_calls"].tolist() == [each, 2 * each]
    assert table["tuning_calls"].tolist() == [4 * 8 * 2 * 4, 2 * 4 * 8 * 2 * 4]
    assert float(table["policy_reward"].iloc[0]) == pytest.approx(curve["reward"].iloc[2])
    assert json.loads((whole / "summary.json").read_text())["curves_over"] == "scoring calls"
    page = (whole / "report.html").read_text()
    assert "Against scoring calls" in page and "mean of the best 10" in page and "95% confidence" not in page
    assert set(weights(whole)) == {name for name in weights(whole) if "lora" in name}


def test_the_best_until_then_join_the_next_bank_and_raise_the_policy(whole):
    def bank(name):
        (file,) = (whole / name).glob("*.safetensors")
        return LookaheadBank.load(file)

    drawn, pool, before = bank("drawn-2"), bank("pool-2"), bank("found-1")
    assert len(drawn.samples) == 12 and len(pool.samples) == 12 + 10
    assert torch.equal(pool.samples, torch.cat((drawn.samples, before.samples)))
    assert before.rewards["carbons"].mean() > bank("drawn-1").rewards["carbons"].mean()
    assert bank("found-2").rewards["carbons"].sum() >= before.rewards["carbons"].sum()


def test_pools_keep_the_best_different_samples():
    model, reward = tiny(), CallableReward(carbons, name="carbons")
    one = LookaheadBank.from_smiles(model, ["C", "CC", "CCC"], {"carbons": [1.0, 2.0, 3.0], "other": [0.0] * 3})
    two = LookaheadBank.from_smiles(model, ["CCC", "CCCC"], {"carbons": [3.0, 4.0]})
    pool = joined([one, two])
    assert pool.rewards.keys() == {"carbons"} and pool.provenance.n == 5 and pool.provenance.steps == 0
    assert model.decode(best(pool, model, reward, 3).samples) == ["CC", "CCC", "CCCC"]
    lower = CallableReward(carbons, name="carbons", higher_is_better=False)
    assert model.decode(best(pool, model, lower, 2).samples) == ["C", "CC"]


@pytest.mark.parametrize("where", ["drawn-1", "step", "part", "trained-1", "round-2"])
def test_a_killed_run_goes_on_to_the_same_end(where, whole, tmp_path, monkeypatch):
    def killed(*arguments, **named):
        raise KeyboardInterrupt

    write, put, step, seen = module.write_atomically, RunFolder.put, DPOModule.training_step, []
    with monkeypatch.context() as patch, pytest.raises((KeyboardInterrupt, SystemExit)):
        if where == "step":  # the third of the second round
            patch.setattr(module, "save_last", lambda *a, **k: save_last(*a, **{**k, "every_n_train_steps": 1}))
            patch.setattr(
                DPOModule, "training_step", lambda *a: killed() if len(seen) == 6 else seen.append(1) or step(*a)
            )
        elif where == "part":
            patch.setattr(RunFolder, "put", lambda self, part: put(self, part) and killed())
        else:
            patch.setattr(
                module, "write_atomically", lambda path, data: killed() if path.stem == where else write(path, data)
            )
        rounds(**settings(tmp_path / "run"))
    rounds(**settings(tmp_path / "run"))
    same(whole, tmp_path / "run")


def test_a_run_that_has_ended_goes_on_with_more_rounds(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "run")
    rounds(**settings(tmp_path / "run", rounds=3))
    before, after = (read_csv(folder / "rounds.csv") for folder in (whole, tmp_path / "run"))
    assert list(after["round"]) == ["round-1", "round-2", "round-3"]
    assert after["scoring_calls"].iloc[:2].tolist() == before["scoring_calls"].tolist()


def test_all_weights_may_be_trained_and_rewards_combined(tmp_path):
    length = CallableReward(lambda samples, prompts: [float(len(s)) for s in samples], name="length")
    reward = Combined([CallableReward(carbons, name="carbons"), length])
    rounds(**settings(tmp_path / "run", reward=reward, lora=None, rounds=1, keep=0, prompts=["a", "b"]))
    assert len(weights(tmp_path / "run")) > 20 and len(list((tmp_path / "run" / "pool-1").iterdir())) == 2
    assert {path.stem for path in (tmp_path / "run" / "scores").iterdir()} == {"carbons", "length"}


def test_pictures(tmp_path):
    reward = CallableReward(lambda samples, prompts: samples.flatten(1).mean(1), name="light", modality="image")
    model = StableDiffusion(build("StableDiffusion"), guidance_scale=1.0)
    given = settings(
        tmp_path / "run", backbone=model, reward=reward, metrics=None, prompts=["a cat", "a dog"], samples=2, beta=10.0,
        lookahead=Lookahead(2, 4), keep=2, tuning_steps=2, training_data=None,
    )  # fmt: skip
    rounds(**given)
    table = read_csv(tmp_path / "run" / "rounds.csv")
    assert table["scoring_calls"].tolist() == [2 * (4 + 2), 2 * 2 * (4 + 2)] and "valid" not in table
    assert (tmp_path / "run" / "lora").is_dir() and "a dog" in (tmp_path / "run" / "report.html").read_text()


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"keep": -1}, "keep, the number of samples that join the next bank, must be at least 0, got -1"),
        ({"fraction": 0.9}, "fraction must be in"),
        ({"beta": 0.0}, "needs beta > 0"),
        ({"prompts": []}, "prompts must not be empty"),
        ({"reward": CallableReward(carbons, name="c", modality="image")}, "scores samples of modality 'image'"),
        (
            {"reward": CallableReward(lambda s, p: [1.0] * len(s), name="same")},
            "no preferences: the best and the worst",
        ),
    ],
)
def test_bad_input_is_named(changed, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        rounds(**settings(tmp_path / "run", **changed))


def test_a_folder_of_other_settings_is_refused(whole):
    with pytest.raises(ValueError, match="holds a run of other settings .*keep: 6 -> 7"):
        Rounds(**settings(whole, keep=7)).open()


def test_the_command_runs_a_configuration_and_says_where_things_are(tmp_path, capsys):
    tiny(length=16).save_pretrained(tmp_path / "model")
    (tmp_path / "training.txt").write_text("CCO\n")
    config = {
        "backbone": {
            "class_path": "lidar_lightning.UDLM.from_pretrained",
            "init_args": {"pretrained_model_name_or_path": str(tmp_path / "model")},
        },
        "reward": {
            "class_path": "lidar_lightning.rewards.CallableReward", "init_args": {"path": "tests.conftest:carbons"},
        },
        "lookahead": {"class_path": "lidar_lightning.Lookahead", "init_args": {"steps": 3, "n": 12}},
        "guidance": {"restart": 0.6, "ess": 0.5}, "training_data": str(tmp_path / "training.txt"),
        "out": str(tmp_path / "run"), **SMALL, "rounds": 1,
    }  # fmt: skip
    (tmp_path / "rounds.yaml").write_text(yaml.safe_dump(config))
    assert main(["rounds", "-c", str(tmp_path / "rounds.yaml"), "--lora=null"]) == 0
    printed = capsys.readouterr()
    assert "round-1" in printed.out and str(tmp_path / "run" / "report.html") in printed.out
    assert "lidar: round 1 of 1: fine-tune ..." in printed.err
    assert main(["rounds", "-c", str(tmp_path / "run" / "config.yaml")]) == 0
    assert main(["rounds", "-c", str(tmp_path / "run" / "config.yaml"), "--keep", "9"]) == 2
    assert "keep: 6 -> 9" in capsys.readouterr().err
