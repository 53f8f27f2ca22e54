"""`lidar sample`: `lidar predict` with the shipped configuration of a model, without a YAML."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from lidar_lightning.commands.configs import find_config, shipped

MOST = 64
"""Samples of a prompt, unless more are asked for: a first look shall not take long."""
TRAINER = {"devices": 1, "logger": False, "enable_checkpointing": False, "enable_model_summary": False}
EXAMPLES = """examples:
  lidar sample --model udlm-qm9-small --reward RingCount --samples 64
  lidar sample "a red ring and a blue square" --model shapes-sd
  lidar sample prompts.txt --model stable-diffusion-v1-5/stable-diffusion-v1-5 --reward ImageReward
  lidar sample --model udlm-qm9-small --reward my_rewards:nitrogens

Settings are those of the shipped configuration of the model, which `lidar config NAME` prints. For other settings,
`lidar predict -c OUT/config.yaml` takes what this command writes."""


class Options(argparse.ArgumentParser):
    """Raises what it finds wrong."""

    def error(self, message: str) -> NoReturn:
        error = argparse.ArgumentError(None, f"{message} (lidar sample --help)")
        error.options = list(self._option_string_actions)  # type: ignore[attr-defined]
        raise error


def options() -> Options:
    """The options of the command."""
    parser = Options(
        "lidar sample",
        description="Draws samples of high reward, scores them, and writes pictures, tables and a report.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "prompts", nargs="*", metavar="PROMPT", help="texts, or one .txt, .csv or .jsonl file; none for a model without"
    )
    add(
        "--model",
        required=True,
        help="udlm-qm9-small, mdlm-qm9-small, shapes-sd or shapes-flux, which ship; a folder; OWNER/REPOSITORY",
    )
    add("--reward", help="a class of lidar_lightning.rewards, or module:function; by default the configuration's")
    add("--keep", metavar="TOKENS", help="with which every SMILES string begins; with *, a template of free tokens")
    add("--samples", type=int, help=f"of each prompt; by default the configuration's, at most {MOST}")
    add("--out", help="folder of the run; by default outputs/sample-1, -2, ...")
    add("--seed", type=int, default=0, help="of all sampling (0)")
    add("--ckpt_path", metavar="CHECKPOINT", help="weights or adapters that `lidar fit` trained")
    add("-c", "--config", help="the configuration whose settings to take, by default that of the model")
    return parser


def settings_of(path: Path) -> dict[str, Any]:
    """A configuration as a dictionary."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def model_of(settings: dict[str, Any]) -> str | None:
    """The model that a configuration samples, by the name or folder under which it is loaded."""
    arguments = settings.get("model", {}).get("init_args", {})
    return arguments.get("backbone", {}).get("init_args", {}).get("pretrained_model_name_or_path")


def config_of(model: str) -> Path:
    """The shipped configuration of a model: the one that names it, or one of the same class of pipeline.

    Raises:
        ValueError: if there is none.
    """
    ours = {name: path for name, path in shipped().items() if name.endswith("/lidar")}
    names = {model_of(settings_of(path)): path for path in ours.values()}
    if model.partition("@")[0] in names:
        return names[model.partition("@")[0]]
    index = Path(model).expanduser() / "model_index.json"
    named = next((kind for kind in ("UDLM", "MDLM") if kind.lower() in model.lower()), "")
    kind = json.loads(index.read_text())["_class_name"] if index.is_file() else named
    if not index.is_file() and (index.parent / "config.json").is_file():
        kind = json.loads((index.parent / "config.json").read_text()).get("model_type", "udlm").upper()
    kinds = {
        "UDLM": "qm9",
        "MDLM": "qm9-masks",
        "StableDiffusionPipeline": "sd15",
        "StableDiffusionXLPipeline": "sdxl",
        "FluxPipeline": "flux",
    }
    if kind not in kinds:
        raise ValueError(
            f"no shipped configuration is known for the model {model!r}: say whose settings to take, with --config "
            f"NAME ({', '.join(ours)}) or --config FILE"
        )
    return ours[f"{kinds[kind]}/lidar"]


def reward_of(name: str) -> dict[str, Any]:
    """A reward of a configuration: module:function is a function of one's own, any other name a class."""
    if ":" in name:
        return {"class_path": "lidar_lightning.rewards.CallableReward", "init_args": {"path": name}}
    return {"class_path": name if "." in name else f"lidar_lightning.rewards.{name}"}


def fresh_folder(home: str = "outputs") -> str:
    """The first of outputs/sample-1, -2, ... that is not there."""
    return next(str(path) for n in range(1, 10**6) if not (path := Path(home) / f"sample-{n}").exists())


def composed(arguments: Sequence[str]) -> dict[str, Any]:
    """The configuration that a command line asks for, for `predict`.

    Raises:
        ValueError: if no configuration is known for the model, or a number is below 1.
    """
    given = options().parse_args(list(arguments))
    settings = settings_of(find_config(given.config) if given.config else config_of(given.model))
    model, data = settings["model"]["init_args"], settings["data"]["init_args"]
    model["backbone"]["init_args"]["pretrained_model_name_or_path"] = given.model
    if given.keep:
        model["backbone"]["init_args"]["keep"] = given.keep
    if given.reward:
        model["reward"] = reward_of(given.reward)
        model["metrics"] = [m for m in model.get("metrics", []) if m["class_path"] != model["reward"]["class_path"]]
    model |= {"seed": given.seed, "out": given.out or fresh_folder()}
    samples = min(data["samples"], MOST) if given.samples is None else given.samples
    prompts = given.prompts[0] if len(given.prompts) == 1 else given.prompts or data.get("prompts")
    if not prompts:
        raise ValueError(f'give {given.model} a prompt, such as lidar sample "a red ring and a blue square" ...')
    settings["data"]["class_path"] = "datamodules.PromptDataModule"
    data["prompts"] = prompts
    data |= {
        "samples": samples,
        "batch_size": max(data["batch_size"], samples) if model.get("rounds", 1) > 1 else data["batch_size"],
    }
    return {
        "seed_everything": given.seed, "model": settings["model"], "data": settings["data"], "trainer": TRAINER,
        **({"ckpt_path": given.ckpt_path} if given.ckpt_path else {}),
    }  # fmt: skip


def sample_command(arguments: Sequence[str]) -> None:
    """Draws what a command line asks for."""
    if {"-h", "--help"} & set(arguments):
        print(options().format_help())
        return
    settings = composed(arguments)
    from lidar_lightning.commands.lightning import lightning_command

    lightning_command({"subcommand": "predict", "predict": settings})
