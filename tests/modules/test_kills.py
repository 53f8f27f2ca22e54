"""Commands that are killed at random moments and go on: their tables equal an undisturbed run's, and nothing is left.

`pytest tests/modules/test_kills.py --kills 20` kills each command that often.
"""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
import yaml

from lidar_lightning.cli import main
from lidar_lightning.modules.checkpoint_io import WholeCheckpointIO
from lidar_lightning.utils import lifetime
from lidar_lightning.utils.lifetime import PARENT
from tests.conftest import tiny
from tests.modules.test_lidar_module import configuration
from tests.runs.test_run_folder import files
from tests.runs.test_used_config import COMPARISON, fit_configuration

REPOSITORY = Path(__file__).parents[2]
VARYING = {"seconds", "lookahead_seconds", "peak_mib"}
PATIENCE = 120.0


def start(arguments):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    environment.pop(PARENT, None)
    command = [sys.executable, "-m", "lidar_lightning.cli", *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait_for(condition, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not (met := condition()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return met


def orphans(folder):
    """Processes whose command line names a folder."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid != os.getpid() and any(str(folder) in word for word in process.cmdline()):
                found.append(process)
    return found


def written(path):
    """When a file was written, None if it is not there."""
    return path.stat().st_mtime_ns if path.exists() else None


def disturb(command, folder, longest, kills, stream):
    """Kills a command, started again each time, at random moments up to `longest` seconds after its work began.

    The work begins when its configuration is written.

    Args:
        command: gives the arguments of the next start.

    Returns:
        how often it was killed in the middle of its work; it may have finished before.
    """
    killed, config = 0, folder / "config.yaml"
    for number in range(kills):
        before, process = written(config), start(command())
        wait_for(lambda process=process, before=before: written(config) != before or process.poll() is not None)
        time.sleep(stream.uniform(0, longest))
        killed += process.poll() is None
        process.send_signal(stream.choice([signal.SIGKILL, signal.SIGTERM]))
        process.wait(PATIENCE)
        assert wait_for(lambda: not orphans(folder), 10), f"kill {number}: {orphans(folder)} outlived their parent"
    return killed


@pytest.fixture
def kills(request):
    return request.config.getoption("--kills")


def numbers(folder):
    """The summary of a run without what depends on the time it took."""
    rows = json.loads((folder / "summary.json").read_text())["methods"]
    return {row: {key: value for key, value in row_of.items() if key not in VARYING} for row, row_of in rows.items()}


def same_tables(whole, killed):
    assert files(killed) == files(whole)
    assert numbers(killed) == numbers(whole)
    for path in whole.rglob("*.csv"):
        assert (killed / path.relative_to(whole)).read_bytes() == path.read_bytes(), path


@pytest.mark.slow
def test_predict_killed_at_random_moments(tmp_path, kills, record_property):
    sizes = {"samples": 8 + 24 * kills, "steps": 16}
    assert main(["predict", "-c", str(configuration(tmp_path, "whole", **sizes))]) == 0
    out, command = tmp_path / "killed", ["predict", "-c", str(configuration(tmp_path, "killed", **sizes))]
    count = disturb(lambda: command, out, 0.6, kills, random.Random(0))
    assert main(command) == 0
    same_tables(tmp_path / "whole", out)
    record_property("killed", count)


@pytest.mark.slow
def test_a_comparison_of_two_processes_killed_at_random_moments(tmp_path, kills, record_property):
    tiny().save_pretrained(tmp_path / "tiny")
    (tmp_path / "training.txt").write_text("CCO\n")
    for name in ("whole", "killed"):
        text = COMPARISON.format(model=tmp_path / "tiny", out=tmp_path / name, training=tmp_path / "training.txt")
        config = {
            **yaml.safe_load(text),
            "prompts": [f"m{i}" for i in range(4 * kills)],
            "steps": 16,
            "budgets": [32],
            "seeds": [0],
        }
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
    assert main(["compare", "--config", str(tmp_path / "whole.yaml")]) == 0
    out, command = tmp_path / "killed", ["compare", "--config", str(tmp_path / "killed.yaml"), "--processes=2"]
    # Later kills find the second process at work, earlier ones in its imports.
    count = disturb(lambda: command, out, 6.0, kills, random.Random(1))
    assert main(command) == 0
    same_tables(tmp_path / "whole", out)
    assert not orphans(out)
    record_property("killed", count)


def weights(path):
    return torch.load(path, weights_only=True)["state_dict"]


@pytest.mark.slow
def test_fit_killed_at_random_moments(tmp_path, kills, record_property):
    fit_configuration(tmp_path)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config["trainer"] |= {"max_steps": 60 * kills, "limit_val_batches": 0}
    for name in ("whole", "killed"):
        config["trainer"]["callbacks"][0]["init_args"] = {
            "dirpath": str(tmp_path / name), "save_last": True, "every_n_train_steps": 5, "save_top_k": 1,
        }  # fmt: skip
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "-c", str(tmp_path / "whole.yaml")]) == 0
    out = tmp_path / "killed"

    def command():
        last = out / "last.ckpt"
        return ["fit", "-c", str(tmp_path / "killed.yaml"), *(["--ckpt_path", str(last)] if last.exists() else [])]

    count = disturb(command, out, 1.0, kills, random.Random(2))
    assert main(command()) == 0
    assert files(out) == files(tmp_path / "whole")
    for name, value in weights(tmp_path / "whole" / "last.ckpt").items():
        torch.testing.assert_close(weights(out / "last.ckpt")[name], value, rtol=1e-5, atol=1e-7)
    record_property("killed", count)


MOTHER = """
import runpy, subprocess, sys
runpy.run_path(sys.argv[1])["end_with_parent"]()
child = subprocess.Popen([sys.executable, "-c", *sys.argv[2:]], stdout=subprocess.PIPE)
assert child.stdout.readline() == b"tied\\n"
print(child.pid, flush=True)
child.wait()
"""
CHILD = """
import psutil, runpy, sys, time
sys.platform = sys.argv[2]
runpy.run_path(sys.argv[1])["end_with_parent"]()
print("tied", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
@pytest.mark.parametrize("platform", ["linux", "elsewhere"])
def test_a_process_ends_with_its_parent(how, platform):
    environment = {key: value for key, value in os.environ.items() if key != PARENT}
    command = [sys.executable, "-c", MOTHER, lifetime.__file__, CHILD, lifetime.__file__, platform]
    mother = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    child = int(mother.stdout.readline())
    time.sleep(0.2 if platform == "linux" else 1.5)  # elsewhere it looks every second
    assert lifetime.alive(child)
    mother.send_signal(how)
    mother.communicate()
    assert wait_for(lambda: not lifetime.alive(child), 10)


def test_a_process_whose_parent_is_gone_already_ends():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [sys.executable, "-c", CHILD, lifetime.__file__, "linux"]
    orphan = subprocess.run(command, env={**os.environ, PARENT: str(gone.pid)}, capture_output=True, timeout=PATIENCE)
    assert orphan.returncode == 1 and not orphan.stdout


def test_a_killed_write_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    writer = WholeCheckpointIO()
    writer.save_checkpoint({"step": 1}, tmp_path / "last.ckpt")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        writer.save_checkpoint({"step": 2}, tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True) == {"step": 1}
    (left,) = set(tmp_path.iterdir()) - {tmp_path / "last.ckpt"}
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left.rename(left.with_name(left.name.replace(f".{os.getpid()}.", f".{gone.pid}.")))
    writer.save_checkpoint({"step": 3}, tmp_path / "last.ckpt")
    assert files(tmp_path) == ["last.ckpt"]


def test_the_command_writes_whole_checkpoints(tmp_path, monkeypatch):
    fit_configuration(tmp_path)
    written = []
    plain = WholeCheckpointIO.save_checkpoint
    monkeypatch.setattr(
        WholeCheckpointIO,
        "save_checkpoint",
        lambda self, c, path, storage_options=None: written.append(path) or plain(self, c, path),
    )
    options = ["--trainer.callbacks=null", f"--trainer.default_root_dir={tmp_path}", "--trainer.limit_val_batches=0"]
    assert main(["fit", "-c", str(tmp_path / "config.yaml"), *options]) == 0
    assert [Path(path).suffix for path in written] == [".ckpt"] and not [n for n in files(tmp_path) if "tmp" in n]
