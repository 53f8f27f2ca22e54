"""`lidar predict` with any sampler: the same samples as a task draws, over batches, prompts, processes and kills."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import lightning as L
import pandas as pd
import pytest
import torch
import yaml

from datamodules import PromptDataModule
from lidar_lightning import LiDARModule, Lookahead, SamplingModule
from lidar_lightning.cli import main
from lidar_lightning.rewards import CallableReward, Combined
from lidar_lightning.samplers import (
    SMC,
    SVDD,
    BeamSearch,
    BestLookaheads,
    BestOfN,
    DraftThenFinish,
    LiDAR,
    LiDARSMC,
    Task,
    VerifierThreshold,
)
from lidar_lightning.utils.tables import read_csv
from tests.conftest import tiny

ROOT = Path(__file__).parents[2]


def predict(module, samples=12, batch_size=12, prompts="molecule"):
    trainer = L.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False)
    return trainer.predict(module, PromptDataModule(prompts, samples, batch_size))


def strings(parts):
    return {(p, i): s for part in parts for p, i, s in part.table()[["prompt", "index", "sample"]].values.tolist()}


def sampling(reward, sampler, **settings):
    return SamplingModule(tiny(), reward, sampler, steps=6, **settings)


SAMPLERS = {
    "best-of-n": lambda: BestOfN(2.5),
    "best-of-n each": lambda: BestOfN(3, pooled=False),
    "best-of-n drafts": lambda: BestOfN(3, steps=2),
    "best lookaheads": lambda: BestLookaheads(Lookahead(3, 30)),
    "draft": lambda: DraftThenFinish(2.5, 2, 0.7),
    "draft each": lambda: DraftThenFinish(3, 2, 0.7, pooled=False),
    "beam": lambda: BeamSearch(2, 2, 2, steps=4, pooled=False),
    "beam pooled": lambda: BeamSearch(2, 2, 2, steps=4),
    "threshold": lambda: VerifierThreshold(2.0, calls=20, starts=3, steps=4),
    "smc": lambda: SMC(3, every=2),
    "smc pooled": lambda: SMC(3, every=2, keep="best"),
    "svdd each": lambda: SVDD(3, keep="best", pooled=False),
    "lidar": lambda: LiDAR(Lookahead(3, 30), restart=0.4, candidates=2, pooled=False),
    "lidar pooled": lambda: LiDAR(Lookahead(3, 30), restart=0.4, candidates=1.5),
    "lidar rounds": lambda: LiDAR(Lookahead(3, 30), restart=0.4, candidates=3, rounds=3),
    "lidar moves": lambda: LiDAR(Lookahead(3, 30), restart=0.4, moves=3),
    "lidar+smc": lambda: LiDARSMC(Lookahead(3, 30), 3),
    "lidar+smc pooled": lambda: LiDARSMC(Lookahead(3, 30), 3, keep="best"),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_predict_draws_what_a_task_draws(name, carbon_reward):
    module = sampling(carbon_reward, SAMPLERS[name](), temperature=1.0)
    task = Task(module.backbone, module.solver, carbon_reward, "molecule", 1.0, seed=0)
    expected = module.backbone.decode(SAMPLERS[name]()(task, 12))
    (part,) = predict(module)
    assert list(part.decoded) == expected
    assert part.nfe == pytest.approx((task.meter.network - task.meter.lookahead) / 12)


EACH = ["best-of-n each", "draft each", "beam", "threshold", "smc", "svdd each", "lidar", "lidar moves", "lidar+smc"]


@pytest.mark.parametrize("name", EACH)
def test_batches_and_prompts_change_nothing(name, carbon_reward):
    runs = [
        strings(predict(sampling(carbon_reward, SAMPLERS[name](), temperature=1.0), 6, size, ["a", "b"]))
        for size in (2, 6, 12)
    ]
    assert runs[0] == runs[1] == runs[2] and len(runs[0]) == 12


def test_samplers_that_pool_need_all_samples_of_a_prompt(carbon_reward):
    with pytest.raises(ValueError, match="BestOfN draws the 12 samples of a prompt together: .* batch_size of 12"):
        predict(sampling(carbon_reward, BestOfN(2)), batch_size=5)
    together = strings(predict(sampling(carbon_reward, BestOfN(2)), 6, 12, ["a", "b"]))
    alone = strings(predict(sampling(carbon_reward, BestOfN(2)), 6, 6, ["a", "b"]))
    assert together == alone


def test_the_best_are_kept(carbon_reward):
    def mean(sampler):
        return predict(sampling(carbon_reward, sampler), 24, 24)[0].scores["carbons"].mean()

    assert mean(BestOfN(4)) > mean(BestOfN(1)) + 0.5
    assert mean(LiDAR(Lookahead(3, 30), restart=0.5, candidates=3)) > mean(LiDAR(Lookahead(3, 30), restart=0.5)) + 0.3


def test_the_short_form_is_lidar(carbon_reward):
    short = LiDARModule(tiny(), carbon_reward, Lookahead(3, 30), 6, restart=0.4, candidates=2, temperature=2.0)
    long = sampling(carbon_reward, LiDAR(Lookahead(3, 30), pooled=False, restart=0.4, candidates=2, temperature=2.0))
    assert strings(predict(short)) == strings(predict(long))
    climb = {"restart": 0.4, "candidates": 3, "rounds": 3, "ess": 0.3}
    short = LiDARModule(tiny(), carbon_reward, Lookahead(3, 30), 6, **climb)
    assert strings(predict(short)) == strings(predict(sampling(carbon_reward, LiDAR(Lookahead(3, 30), **climb))))
    plain = LiDARModule(tiny(), carbon_reward, None, 6)
    assert strings(predict(plain)) == strings(predict(sampling(carbon_reward, BestOfN(1))))


def test_a_bank_needs_no_trainer(carbon_reward):
    module = LiDARModule(tiny(), carbon_reward, Lookahead(3, 30), 6)
    bank = module.bank("molecule")
    assert bank.samples.shape == (30, 12) and set(bank.rewards) == {"carbons"} and module.bank("molecule") is bank
    with pytest.raises(ValueError, match="BestOfN has no lookahead"):
        sampling(carbon_reward, BestOfN()).bank("molecule")


def test_a_combined_reward_selects_within_each_prompt(carbon_reward):
    length = CallableReward(lambda samples, prompts: [float(len(s)) for s in samples], name="length")
    reward = Combined([carbon_reward, length])
    lidar = LiDAR(Lookahead(3, 30), candidates=2, pooled=False)
    both = strings(predict(sampling(reward, lidar), 4, 12, ["a", "b"]))
    assert both == strings(predict(sampling(reward, lidar), 4, 4, ["a", "b"]))


def test_finished_samples_are_taken_and_missing_ones_drawn(carbon_reward, tmp_path):
    climbing = LiDAR(Lookahead(3, 30), restart=0.4, candidates=3, rounds=3, ess=0.3)
    samplers = {"each": BestOfN(3, pooled=False), "pool": BestOfN(2.5), "rounds": climbing}
    for name, sampler in {**samplers, "particles": SMC(3, every=2, keep="best")}.items():
        given = {"out": str(tmp_path / name), "temperature": None if name == "rounds" else 1.0}
        whole = strings(predict(sampling(carbon_reward, sampler, **given), 6, 6, ["a", "b"]))
        shutil.rmtree(next((tmp_path / name / "parts").glob("a-*")))
        assert strings(predict(sampling(carbon_reward, sampler, **given), 6, 6, ["a", "b"])) == whole
    with pytest.raises(ValueError, match="other settings"):
        predict(sampling(carbon_reward, BestOfN(3), out=str(tmp_path / "each")), 6, 6, ["a", "b"])


def test_how_many_lookaheads_are_drawn_at_once_is_no_setting(carbon_reward, tmp_path):
    runs = [
        strings(predict(sampling(carbon_reward, LiDAR(Lookahead(3, 30, batch_size=size)), out=str(tmp_path))))
        for size in (256, 7)
    ]
    assert runs[0] == runs[1]


def test_network_calls_are_no_larger_than_the_batch(carbon_reward, monkeypatch):
    """Candidates and particles multiply the rows of a batch, not what goes through the network at once."""
    module = sampling(carbon_reward, BestOfN(3, pooled=False))
    rows, predict_ = [], module.backbone.predict
    monkeypatch.setattr(module.backbone, "predict", lambda x, t, c: rows.append(len(x)) or predict_(x, t, c))
    predict(module, 8, 4)
    assert max(rows) == 4 and sum(rows) == 8 * 3 * 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda reward: sampling(reward, BestOfN), "sampler must be a Sampler"),
        (lambda reward: predict(sampling(reward, SMC(3))), "give a temperature, which is lambda"),
        (lambda reward: LiDARModule(tiny(), reward, restart=2.0), "restart is a time in .* got 2.0"),
        (lambda reward: LiDARModule(tiny(), reward, None, candidates=0), "candidates must be at least 1"),
        (lambda reward: LiDARModule(tiny(), reward, candidates=1.5), "a whole number for each sample, got n=1.5"),
    ],
)
def test_bad_settings_are_named(make, message, carbon_reward):
    with pytest.raises(ValueError, match=message):
        make(carbon_reward)


def readme_sampler():
    text = (ROOT / "docs" / "how-to" / "own-sampler.md").read_text()
    return next(part.split("```")[0] for part in text.split("```python\n") if part.startswith("# batches.py"))


def configuration(folder, out, sampler, **trainer):
    """The arguments of a run on the tiny model, which it saves."""
    tiny().save_pretrained(folder / "tiny")
    (folder / "batches.py").write_text(readme_sampler())
    backbone = {"pretrained_model_name_or_path": str(folder / "tiny")}
    reward = {"class_path": "lidar_lightning.rewards.CallableReward", "init_args": {"path": "tests.conftest:carbons"}}
    arguments = {
        "backbone": {"class_path": "lidar_lightning.UDLM.from_pretrained", "init_args": backbone},
        "reward": reward, "sampler": sampler, "steps": 6, "out": str(folder / out),
    }  # fmt: skip
    data = {"prompts": ["a", "b", "c", "d"], "samples": 4, "batch_size": 4}
    config = {
        "model": {"class_path": "lidar_lightning.SamplingModule", "init_args": arguments},
        "data": {"class_path": "datamodules.PromptDataModule", "init_args": data},
        "trainer": {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", **trainer},
    }
    (folder / f"{out}.yaml").write_text(yaml.safe_dump(config))
    return ["predict", "-c", str(folder / f"{out}.yaml")]


@pytest.mark.slow
@pytest.mark.parametrize(
    "sampler",
    [
        {"class_path": "lidar_lightning.samplers.BestOfN", "init_args": {"n": 2}},
        {"class_path": "batches.Batches", "init_args": {"batches": 2}},
        {
            "class_path": "lidar_lightning.samplers.Planned",
            "init_args": {
                "choices": {
                    "drafts": {"class_path": "lidar_lightning.samplers.BestOfN", "init_args": {"steps": 3}},
                    "whole": {"class_path": "lidar_lightning.samplers.BestOfN"},
                },
                "prompts": ["pilot"],
                "objective": "reward",
                "calls": 12,
                "references": 8,
            },
        },
    ],
    ids=["best-of-n", "own", "planned"],
)
def test_one_process_two_processes_and_a_kill_draw_the_same(sampler, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "batches", raising=False)
    assert main(configuration(tmp_path, "one", sampler)) == 0
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{tmp_path}", "OMP_NUM_THREADS": "1"}
    two = configuration(tmp_path, "two", sampler, devices=2, strategy="ddp")
    found = subprocess.run(
        [sys.executable, "-m", "lidar_lightning.cli", *two], env=environment, capture_output=True, timeout=300
    )
    assert found.returncode == 0, found.stdout + found.stderr
    shutil.copytree(tmp_path / "one", tmp_path / "killed")
    for path in (tmp_path / "killed" / "parts").glob("[cd]-*"):
        shutil.rmtree(path)
    (tmp_path / "killed" / "summary.json").unlink()
    assert main(configuration(tmp_path, "killed", sampler)) == 0
    one, two, killed = (read_csv(tmp_path / name / "samples.csv") for name in ("one", "two", "killed"))
    pd.testing.assert_frame_equal(one, two)
    pd.testing.assert_frame_equal(one, killed)
    assert len(one) == 16 and torch.tensor(one["carbons"]).float().std() > 0
