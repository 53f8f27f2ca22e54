"""README and docs are true: every block of Python runs, every command is parsed and built, every YAML names what is.

What runs for long is made small (`SMALL`), and runs of the command line stop where the work would begin.
"""

import contextlib
import importlib
import json
import re
import runpy
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import StableDiffusionPipeline

from lidar_lightning import cli
from lidar_lightning.commands import lightning
from lidar_lightning.commands.lightning import LidarCLI
from lidar_lightning.rewards import CallableReward, Reward
from lidar_lightning.runs import compare_command
from lidar_lightning.runs.comparison import Comparison
from lidar_lightning.shapes.grammar import parse as shapes_prompt
from lidar_lightning.utils.parser import SettingsParser
from recipes.rounds import Rounds
from tests import modern_pipelines
from tests.conftest import carbons, tiny, tiny_mdlm
from tests.pipelines import build

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PYTHON = [path for path in PAGES if "```python" in path.read_text()]
SD = "stable-diffusion-v1-5/stable-diffusion-v1-5"
MODERN = {"Tongyi-MAI/Z-Image": "ZImage", "Qwen/Qwen-Image": "QwenImage"}
SMALL = {
    '.to("cuda")': "", '"height": 1024, "width": 1024': '"height": 32, "width": 32', "steps=28": "steps=2",
    "bfloat16": "float32", "n=200": "n=12", "n=50": "n=2", "samples=256": "samples=4", "max_steps=100": "max_steps=2",
    "samples=100": "samples=4", "rounds=5": "rounds=1", "tuning_steps=50": "tuning_steps=2",
    "num_images_per_prompt=4": "num_images_per_prompt=1, num_inference_steps=3, output_type='pt'",
    "lidar_lookaheads=50": "lidar_lookaheads=2",
    "(steps=8, n=12)(task, 64)": "(steps=8, n=200)(task, 64)",
}  # fmt: skip
API = (ROOT / "docs/api.md").read_text()
KNOWN = {"git", "cd", "pip", "python"}
"""Programs whose commands are not run."""


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(), re.M | re.S)


def commands() -> Iterator[str]:
    """Every line of every bash block once, with continued lines joined."""
    lines = (line for path in PAGES for text in blocks(path, "bash") for line in text.replace("\\\n", " ").splitlines())
    yield from dict.fromkeys(" ".join(line.split()) for line in lines if line.strip())


class Flat(Reward):
    """In place of ImageReward: the mean of all pixels."""

    name, modality = "image_reward", "image"

    def __call__(self, samples, prompts):
        return samples.flatten(1).mean(1)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A folder of tiny models, and what stands for which name."""
    folder = tmp_path_factory.mktemp("models")
    tiny().save_pretrained(folder / "udlm")
    tiny_mdlm().save_pretrained(folder / "mdlm")
    build("StableDiffusion").save_pretrained(folder / "sd")
    own = {f'"{kind}-qm9-small"': repr(str(folder / kind)) for kind in ("udlm", "mdlm")}
    own[SD] = str(folder / "sd")
    for source, name in MODERN.items():
        modern_pipelines.build(name).save_pretrained(folder / name)
        own[source] = str(folder / name)
    return own


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.stem)
def test_python_runs(path, models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("lidar_lightning.rewards.ImageReward", Flat)
    monkeypatch.setattr("lidar_lightning.rewards.RingCount", lambda: CallableReward(carbons, name="ring_count"))
    space: dict = {"__name__": "page"}
    for text in blocks(path, "python"):
        if name := re.match(r"# (\w+\.py)", text):
            (tmp_path / name[1]).write_text(text)
        for shown, used in {**SMALL, **models}.items():
            text = text.replace(shown, used)
        torch.manual_seed(0)
        exec(compile(text, str(path), "exec"), space)


def test_the_notebook_runs(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cells = json.loads((ROOT / "notebooks" / "first_steps.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert len(code) >= 4 and not any(cell.get("outputs") for cell in cells)
    space: dict = {"__name__": "notebook", "display": lambda shown: None}
    for text in code:
        for shown, used in {**SMALL, **models}.items():
            text = text.replace(shown, used)
        exec(compile(text, "notebook", "exec"), space)


@pytest.fixture
def stopped(monkeypatch, tmp_path, models):
    """Commands are parsed and all their objects built, but nothing is drawn."""
    reached = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(LidarCLI, "_run_subcommand", lambda self, command: reached.append(command))
    monkeypatch.setattr(lightning, "read_checkpoint", lambda *arguments, **options: None)
    monkeypatch.setattr(LidarCLI, "instantiate_trainer", lambda self, **settings: None)
    monkeypatch.setattr(Comparison, "open", lambda self: None)
    monkeypatch.setattr(Comparison, "work", lambda self: reached.append("compare"))
    monkeypatch.setattr(Comparison, "finish", lambda self: "")
    monkeypatch.setattr(Rounds, "open", lambda self: None)
    monkeypatch.setattr(Rounds, "run", lambda self: reached.append("rounds") or self.out / "report.html")
    monkeypatch.setattr("lidar_lightning.commands.rounds.read_summary", lambda folder: {"methods": {}})
    monkeypatch.setattr(compare_command, "workers", lambda *rest: contextlib.nullcontext([]))
    monkeypatch.setattr("recipes.demo.main", lambda out="", seed=0: reached.append("demo"))
    monkeypatch.setattr("lidar_lightning.runs.report.write_report", _report(reached))
    monkeypatch.setattr("lidar_lightning.runs.push.push", _push(reached))
    monkeypatch.setattr("lidar_lightning.backbones.any_pipeline.asset_path", models.get)
    (tmp_path / "my_rewards.py").write_text(blocks(ROOT / "docs/how-to/own-reward.md", "python")[0])
    monkeypatch.delitem(sys.modules, "my_rewards", raising=False)
    plain = StableDiffusionPipeline.from_pretrained
    monkeypatch.setattr(
        StableDiffusionPipeline, "from_pretrained", lambda name, **rest: plain(models.get(name, name), **rest)
    )
    monkeypatch.setattr("lidar_lightning.rewards.ImageReward", Flat)
    monkeypatch.setattr("lidar_lightning.rewards.CLIPScore", type("CLIPScore", (Flat,), {"name": "clip_score"}))
    return reached


def _report(reached: list[str]):
    def write_report(run: str) -> str:
        reached.append("report")
        return run

    return write_report


def _push(reached: list[str]):
    def push(folder: str, repository: str, dry_run: bool = False, private: bool = False) -> str:
        reached.append("push")
        return folder

    return push


@pytest.mark.parametrize("line", commands())
def test_commands_are_understood(line, stopped, monkeypatch):
    words = shlex.split(line.replace("<this repository>", "REPOSITORY"), comments=True)
    for part in " ".join(map(shlex.quote, words)).split(" '&&' "):
        understand([word for word in shlex.split(part) if not re.match("[A-Z]+=", word)], stopped, monkeypatch)


def understand(words: list[str], reached: list[str], monkeypatch) -> None:
    """Fails unless a command does what the page says it does."""
    if words[0] == "torchrun":
        words = ["lidar", *words[words.index("lidar_lightning.cli") + 1 :]]
    if words[:2] == ["lidar", "sample"] and any("shapes-" in word for word in words):
        assert shapes_prompt(words[2]).text == words[2]
    if words[0] == "lidar":
        assert cli.main(words[1:]) == 0
        shown = "predict" if words[1] == "sample" else words[1]
        assert reached == ([] if shown == "config" else [shown])
    elif words[0] == "make":
        targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(), re.M)
        assert set(words[1:]) <= set(targets)
    elif words[:2] == ["python", "-m"] and words[2] not in ("build", "pytest"):
        parse_module(words[2], words[3:], monkeypatch)
    else:
        assert words[0] in KNOWN, words
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        assert {name for word in words for name in re.findall(r"^\.\[(\w.*)\]$", word)} <= set(extras)


def parse_module(name: str, arguments: list[str], monkeypatch) -> None:
    """The options of a recipe, as its own command line reads them."""
    seen = []

    def parse(components, **settings):
        listed = components if isinstance(components, list) else [components]
        command, *rest = arguments if isinstance(components, list) else ["", *arguments]
        (function,) = [one for one in listed if command in ("", one.__name__)]
        parser = SettingsParser(exit_on_error=False)
        parser.add_function_arguments(function, as_positional=False)
        seen.append(parser.parse_args(rest))

    monkeypatch.setattr("jsonargparse.auto_cli", parse)
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    runpy.run_module(name, run_name="__main__")
    assert len(seen) == 1


@pytest.mark.parametrize("path", [path for path in PAGES if "```yaml" in path.read_text()], ids=lambda path: path.stem)
def test_yaml_names_what_there_is(path, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "batches.py").write_text(blocks(ROOT / "docs/how-to/own-sampler.md", "python")[0])
    for text in blocks(path, "yaml"):
        assert yaml.safe_load(text)
        for home, name in re.findall(r"class_path: ([\w.]+)\.(\w+)", text):
            monkeypatch.delitem(sys.modules, "batches", raising=False)
            assert hasattr(__import__(home, fromlist=[name]), name), name


@pytest.mark.parametrize("path", [*PAGES, ROOT / "CONTRIBUTING.md"], ids=lambda path: path.stem)
def test_links_lead_to_files_and_headings(path):
    for target in re.findall(
        r"\]\(((?!http)[^)\s]+)\)", re.sub(r"^```.*?^```", "", path.read_text(), flags=re.M | re.S)
    ):
        file, _, heading = target.partition("#")
        found = (path.parent / file).resolve() if file else path
        assert found.exists(), target
        titles = re.findall(r"^#+ (.*)$", found.read_text(), re.M) if heading else []
        anchors = [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]
        assert not heading or heading in anchors, target


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 130


PUBLIC = ("", ".backbones", ".guidance", ".lookahead", ".modules", ".pretraining", ".rewards", ".samplers", ".solvers")


@pytest.mark.parametrize("package", [*(f"lidar_lightning{name}" for name in PUBLIC), "datamodules"])
def test_the_api_page_has_every_public_name(package):
    shown = set()
    for path, members in re.findall(r"^::: ([\w.]+)\n(?: +options: \{members: \[(.*?)\])?", API, re.M):
        home, _, name = path.rpartition(".")
        inside = hasattr(importlib.import_module(home), "__all__") and name in importlib.import_module(home).__all__
        module = None if inside or name[0].isupper() else importlib.import_module(path)
        shown |= {name} if module is None else set(members.split(", ") if members else vars(module))
    assert set(importlib.import_module(package).__all__) <= shown
