"""One attempt of each row: what a command prints, and that what was there stays."""

import json
from pathlib import Path

import pytest
import yaml

from lidar_lightning import cli
from tests.modules.test_lidar_module import configuration


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="session")
def home(tmp_path_factory):
    """A folder with a tiny model, the YAML of a run and of a comparison, and a `run` that somebody else has begun."""
    folder = tmp_path_factory.mktemp("home")
    run = yaml.safe_load(configuration(folder, "run", samples=2, logger=False).read_text())
    init = run["model"]["init_args"]
    comparison = {
        **{key: init[key] for key in ("backbone", "reward")},
        "samplers": {"best": {"class_path": "lidar_lightning.samplers.BestOfN"}, "smc": "lidar_lightning.samplers.SMC"},
        "prompts": "molecule", "out": str(folder / "run"), "samples": 2, "steps": 4, "budgets": [8],
    }  # fmt: skip
    (folder / "compare.yaml").write_text(yaml.safe_dump(comparison))
    (folder / "run").mkdir()
    (folder / "run" / "kept.json").write_text(json.dumps({"kept": True}))
    return folder


@pytest.fixture
def refused(home, capsys, monkeypatch):
    """Runs a command that must end with exit code 2 and one line that holds the message, and must lose nothing."""

    def attempt(message: str, *arguments: str) -> None:
        monkeypatch.chdir(home)
        before = contents(home / "run")
        code = cli.main(arguments)
        printed = capsys.readouterr().err
        lines = [line for line in printed.splitlines() if line.startswith("lidar: error: ")]
        assert code == 2 and len(lines) == 1 and printed.endswith(lines[0] + "\n"), printed
        assert "Traceback" not in printed and message in lines[0], lines[0]
        assert contents(home / "run") == before

    return attempt
