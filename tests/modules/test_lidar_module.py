import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import lightning as L
import pandas as pd
import pytest
import torch
import yaml

from datamodules import PromptDataModule
from lidar_lightning import DPOModule, LiDARModule, Lookahead
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.cli import main
from lidar_lightning.guidance.settings import DEFAULT_ESS
from lidar_lightning.modules.trained import to_checkpoint, trained_state
from lidar_lightning.rewards import CallableReward, Combined, Validity
from lidar_lightning.runs.folder import RunFolder
from lidar_lightning.utils.tables import read_csv
from tests.conftest import tiny


def module(carbon_reward, out=None, backbone=None, lookahead=Lookahead(3, n=30), **settings):  # noqa: B008
    given = settings if {"temperature", "ess"} & settings.keys() else {"ess": DEFAULT_ESS, **settings}
    return LiDARModule(backbone or tiny(), carbon_reward, lookahead=lookahead, steps=6, out=out and str(out), **given)


def predict(lidar, samples=20, batch_size=8, prompts="molecule", ckpt_path=None):
    trainer = L.Trainer(logger=False, enable_progress_bar=False, enable_model_summary=False)
    return trainer.predict(lidar, PromptDataModule(prompts, samples, batch_size), ckpt_path=ckpt_path)


def strings(parts):
    return {(p, i): s for part in parts for p, i, s in part.table()[["prompt", "index", "sample"]].values.tolist()}


def home(folder):
    """Where the finished samples of the default prompt are."""
    return RunFolder(folder, {}).home("molecule")


def mean(parts):
    return torch.cat([part.scores["carbons"] for part in parts]).mean().item()


def test_guidance_raises_the_reward(carbon_reward):
    vanilla = mean(predict(module(carbon_reward, lookahead=None), 60))
    assert mean(predict(module(carbon_reward, scale=2.0), 60)) > vanilla + 0.3


def test_reward_of_which_lower_is_better_is_lowered(carbon_reward):
    fewer = CallableReward(carbon_reward.function, name="carbons", higher_is_better=False)
    assert mean(predict(module(fewer, scale=2.0), 60)) < mean(predict(module(fewer, lookahead=None), 60)) - 0.2


def test_zero_scale_and_zero_temperature_sample_the_plain_model(carbon_reward):
    plain = strings(predict(module(carbon_reward, lookahead=None)))
    assert strings(predict(module(carbon_reward, scale=0.0))) == plain
    assert strings(predict(module(carbon_reward, temperature=0.0))) == plain
    assert strings(predict(module(carbon_reward, start=0.5, stop=0.5))) == plain


def test_batches_and_prompts_do_not_change_samples(carbon_reward):
    one = strings(predict(module(carbon_reward), 20, 20, ["a", "b", "c"]))
    other = strings(predict(module(carbon_reward), 20, 7, ["a", "b", "c"]))
    together = strings(predict(module(carbon_reward), 4, 12, ["a", "b", "c"]))
    assert one == other and together == {key: one[key] for key in together} and len(together) == 12


def test_combined_reward_guides_from_stored_parts(carbon_reward):
    length = CallableReward(lambda samples, prompts: [float(len(s)) for s in samples], name="length")
    parts = predict(module(Combined([carbon_reward, length]), metrics=[Validity()]))
    assert set(parts[0].scores) == {"carbons", "length", "validity"}


def test_a_run_of_a_combined_reward_reports_it(carbon_reward, tmp_path):
    length = CallableReward(lambda samples, prompts: [float(len(s)) for s in samples], name="length")
    reward = Combined([carbon_reward, length])
    predict(module(reward, tmp_path))
    table = read_csv(tmp_path / "samples.csv")
    parts = {name: torch.tensor(table[name]).float() for name in ("carbons", "length")}
    assert table[reward.name].tolist() == pytest.approx(reward.from_scores(parts).tolist(), abs=1e-6)
    assert reward.name in (tmp_path / "report.html").read_text()


def test_run_folder_is_complete(carbon_reward, tmp_path):
    predict(module(carbon_reward, tmp_path, ess=0.3))
    table = read_csv(tmp_path / "samples.csv")
    assert list(table) == ["prompt", "index", "sample", "carbons"] and table["index"].tolist() == list(range(20))
    assert table["carbons"].tolist() == [float(s.count("C")) for s in table["sample"]]
    pd.testing.assert_frame_equal(table, pd.read_parquet(tmp_path / "samples.parquet"))
    row = json.loads((tmp_path / "summary.json").read_text())["methods"]["lidar"]
    assert row["nfe"] == 6 + 30 * 3 / 20 and row["reward"] == pytest.approx(table["carbons"].mean())
    steps = pd.read_csv(tmp_path / "diagnostics.csv")
    assert len(steps) == 6 and steps["ess"].between(1, 30).all() and (steps["ess_r"] <= 30).all()
    assert steps["ess_r"][0] < min(12, steps["ess"][0]) and (steps["shift"] > 0).all()
    assert "carbons" in (tmp_path / "report.html").read_text()


def test_finished_batches_are_not_drawn_again(carbon_reward, tmp_path, monkeypatch):
    whole = strings(predict(module(carbon_reward, tmp_path)))
    (home(tmp_path) / "0000008-0000015.safetensors").write_bytes(b"damaged")
    calls = []
    backbone = tiny()
    predicted = backbone.predict
    monkeypatch.setattr(backbone, "predict", lambda x, *rest: calls.append(len(x)) or predicted(x, *rest))
    assert strings(predict(module(carbon_reward, tmp_path, backbone))) == whole
    assert calls == [8] * 6


def test_missing_batches_are_noticed(carbon_reward, tmp_path):
    lidar = module(carbon_reward, tmp_path)
    predict(lidar)
    with pytest.raises(RuntimeError, match="1 of 21 samples are missing"):
        lidar.run.parts({"molecule": range(21)})


def test_folder_of_other_settings_is_refused(carbon_reward, tmp_path):
    predict(module(carbon_reward, tmp_path))
    with pytest.raises(ValueError, match=r"other settings \(seed: 0 -> 1\)"):
        predict(module(carbon_reward, tmp_path, seed=1))


def test_nan_reward_stops_the_run(tmp_path):
    bad = CallableReward(lambda samples, prompts: [float("nan")] * len(samples), name="bad")
    with pytest.raises(ValueError, match="'bad': 30 of 30 scores are NaN"):
        predict(module(bad, tmp_path))


def adapted_checkpoint(path, seed=0):
    dpo = DPOModule(tiny(seed), lora=LoRA(4))
    for parameter in dpo.parameters():
        if parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.2)
    checkpoint = {"state_dict": trained_state(dpo), "adapters": to_checkpoint(LoRA(4), dpo.base)}
    torch.save({**checkpoint, "pytorch-lightning_version": L.__version__}, path)
    return dpo.backbone


def test_dpo_checkpoint_is_loaded(carbon_reward, tmp_path):
    tuned = adapted_checkpoint(tmp_path / "dpo.ckpt")
    lidar = module(carbon_reward)
    loaded = strings(predict(lidar, ckpt_path=tmp_path / "dpo.ckpt"))
    assert loaded == strings(predict(module(carbon_reward, backbone=tuned)))
    assert loaded != strings(predict(module(carbon_reward)))
    assert lidar.bank("molecule").provenance.fingerprint == tuned.fingerprint() != tiny().fingerprint()


def test_other_architecture_is_refused(carbon_reward, tmp_path):
    adapted_checkpoint(tmp_path / "dpo.ckpt", seed=1)
    with pytest.raises(ValueError, match="adapters were trained on weights"):
        predict(module(carbon_reward), ckpt_path=tmp_path / "dpo.ckpt")
    full = {f"backbone.{k}": v for k, v in tiny(dim=16).state_dict().items()}
    torch.save({"state_dict": full, "pytorch-lightning_version": L.__version__}, tmp_path / "full.ckpt")
    with pytest.raises(ValueError, match="another architecture"):
        predict(module(carbon_reward), ckpt_path=tmp_path / "full.ckpt")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1.0}, "temperature .* at least 0, got -1"),
        ({"temperature": 1.0, "ess": 0.1}, "either temperature .* or ess"),
        ({"ess": 0.0}, r"ess is a fraction .* \(0, 1\], got 0"),
        ({"scale": -1.0}, "scale must be"),
        ({"stop": 0.9, "start": 0.5}, "0 <= stop <= start"),
    ],
)
def test_bad_settings_are_refused(carbon_reward, settings, message):
    with pytest.raises(ValueError, match=message):
        module(carbon_reward, **settings)


def configuration(folder: Path, out: str, samples=24, steps=6, **trainer) -> Path:
    """A YAML of a run on the tiny model, which it saves."""
    tiny().save_pretrained(folder / "tiny")
    path = folder / f"{out}.yaml"
    backbone = {"pretrained_model_name_or_path": str(folder / "tiny")}
    path.write_text(
        yaml.safe_dump(
            {
                "model": {
                    "class_path": "lidar_lightning.LiDARModule",
                    "init_args": {
                        "backbone": {"class_path": "lidar_lightning.UDLM.from_pretrained", "init_args": backbone},
                        "reward": {
                            "class_path": "lidar_lightning.rewards.CallableReward",
                            "init_args": {"path": "tests.conftest:carbons"},
                        },
                        "lookahead": {"class_path": "lidar_lightning.Lookahead", "init_args": {"steps": 3, "n": 30}},
                        "steps": steps,
                        "stop": 1e-6,  # earlier than every step: published guidance, not what is recommended
                        "out": str(folder / out),
                    },
                },
                "data": {
                    "class_path": "datamodules.PromptDataModule",
                    "init_args": {"samples": samples, "batch_size": 4},
                },
                "trainer": {"logger": False, "enable_progress_bar": False, "accelerator": "cpu", **trainer},
            }
        )
    )
    return path


def lidar_command(config: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "lidar_lightning.cli", "predict", "-c", str(config)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


def finished(process: subprocess.Popen) -> None:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


@pytest.mark.slow
def test_two_processes_draw_what_one_does(tmp_path):
    assert main(["predict", "-c", str(configuration(tmp_path, "one", devices=1))]) == 0
    finished(lidar_command(configuration(tmp_path, "two", devices=2, strategy="ddp")))
    one, two = (read_csv(tmp_path / name / "samples.csv") for name in ("one", "two"))
    pd.testing.assert_frame_equal(one, two)
    assert len(one) == 24


@pytest.mark.slow
def test_killed_run_goes_on_where_it_stopped(tmp_path):
    assert main(["predict", "-c", str(configuration(tmp_path, "whole", steps=64))]) == 0
    config = configuration(tmp_path, "killed", steps=64)
    process, parts, deadline = lidar_command(config), tmp_path / "killed" / "parts", time.monotonic() + 120
    while len(list(parts.glob("*/[!.]*"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    kept = {path: path.stat().st_mtime_ns for path in parts.glob("*/[!.]*")}
    assert 2 <= len(kept) < 6 and not (tmp_path / "killed" / "summary.json").exists()
    assert main(["predict", "-c", str(config)]) == 0
    assert all(path.stat().st_mtime_ns == changed for path, changed in kept.items())
    whole, killed = (read_csv(tmp_path / name / "samples.csv") for name in ("whole", "killed"))
    pd.testing.assert_frame_equal(whole, killed)
