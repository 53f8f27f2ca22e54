"""`lidar sample`: `lidar predict` with the shipped configuration of a model, without a YAML."""

import argparse
import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml

from lidar_lightning.commands.configs import find_config, shipped

MOST = 64
"""The number of samples of a prompt, unless more are asked for: a first look should not take long."""
TRAINER = {"devices": 1, "logger": False, "enable_checkpointing": False, "enable_model_summary": False}
EXAMPLES = """examples:
  lidar sample --model udlm-qm9-small --reward RingCount --samples 64
  lidar sample "a red ring and a blue square" --model shapes-sd
  lidar sample prompts.txt --model stable-diffusion-v1-5/stable-diffusion-v1-5 --reward ImageReward
  lidar sample --model udlm-qm9-small --reward my_rewards:nitrogens

Settings are those of the shipped configuration of the model, which `lidar config NAME` prints. For other settings,
`lidar predict -c OUT/config.yaml` takes what this command writes."""


NO_MODEL = (
    "--model is missing: give udlm-qm9-small, mdlm-qm9-small, shapes-sd or shapes-flux, which ship, a folder, or "
    "OWNER/REPOSITORY"
)


class Options(argparse.ArgumentParser):
    """A parser that raises an error where it would print its usage and exit."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Names options that do not exist before those that are missing, which a misspelt one explains."""
        unknown = [
            a
            for a in args or ()
            if a.startswith("--") and a != "--" and a.partition("=")[0] not in self._option_string_actions
        ]
        if unknown:
            self.error(f"unrecognized arguments: {unknown[0]}")
        return super().parse_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        missing = message.startswith("the following arguments are required")
        error = argparse.ArgumentError(None, NO_MODEL if missing else message)
        error.options = list(self._option_string_actions)  # type: ignore[attr-defined]
        raise error


def options() -> Options:
    """The parser of the command's options."""
    parser = Options(
        "lidar sample",
        description="Draws samples of high reward, scores them, and writes pictures, tables and a report.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add(
        "prompts",
        nargs="*",
        metavar="PROMPT",
        help="one or more texts, or one .txt, .csv or .jsonl file; none for a model without prompts",
    )
    add(
        "--model",
        required=True,
        help="udlm-qm9-small, mdlm-qm9-small, shapes-sd or shapes-flux, which ship; a folder; or OWNER/REPOSITORY",
    )
    add("--reward", help="a class of lidar_lightning.rewards, or module:function; by default the configuration's")
    add(
        "--keep",
        metavar="TOKENS",
        help="the tokens with which every SMILES string begins; or, with *, a template of free tokens",
    )
    add("--samples", type=int, help=f"number of samples of each prompt; by default the configuration's, at most {MOST}")
    add("--out", help="the folder of the run; by default outputs/sample-1, -2, ...")
    add("--seed", type=int, default=0, help="the seed of all random numbers; by default 0")
    add("--ckpt_path", metavar="CHECKPOINT", help="the weights or adapters that `lidar fit` trained")
    add("-c", "--config", help="the configuration whose settings to take, by default that of the model")
    return parser


def settings_of(path: Path) -> dict[str, Any]:
    """Reads a configuration as a dictionary. Raises ValueError, naming the file, if it is no YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"the configuration {path} is no YAML: {error}") from error


def arguments_of(settings: Any, part: str) -> dict[str, Any]:
    """The arguments of the model or the data of a configuration; none if it has no such part."""
    found = settings.get(part) if isinstance(settings, dict) else None
    return (found.get("init_args") if isinstance(found, dict) else None) or {}


def model_of(settings: dict[str, Any]) -> str | None:
    """The model that a configuration samples, by the name or folder under which it is loaded."""
    arguments = settings.get("model", {}).get("init_args", {})
    return arguments.get("backbone", {}).get("init_args", {}).get("pretrained_model_name_or_path")


def config_of(model: str) -> Path:
    """The shipped configuration of a model: the one that names the model, or one for the same class of pipeline.

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
        if near := difflib.get_close_matches(model, [name for name in names if name and "/" not in name], 1, 0.7):
            raise ValueError(f"no shipped configuration is known for the model {model!r}: did you mean {near[0]}?")
        raise ValueError(
            f"no shipped configuration is known for the model {model!r}: say whose settings to take, with --config "
            f"NAME ({', '.join(ours)}) or --config FILE"
        )
    return ours[f"{kinds[kind]}/lidar"]


def reward_of(name: str) -> dict[str, Any]:
    """How a configuration writes a reward: module:function is a function of your own, any other name a class."""
    if ":" in name:
        return {"class_path": "lidar_lightning.rewards.CallableReward", "init_args": {"path": name}}
    return {"class_path": name if "." in name else f"lidar_lightning.rewards.{name}"}


def fresh_folder(home: str = "outputs") -> str:
    """The first of outputs/sample-1, -2, ... that is not there."""
    return next(str(path) for n in range(1, 10**6) if not (path := Path(home) / f"sample-{n}").exists())


def composed(arguments: Sequence[str]) -> dict[str, Any]:
    """The configuration for `predict` that a command line stands for.

    Raises:
        ValueError: if no configuration is known for the model, if the one that is given draws no samples, if a prompt
            is missing, if an option is empty, or if the seed is negative.
    """
    given = options().parse_args(list(arguments))
    if given.model == "":
        raise ValueError(NO_MODEL)
    for name in ("reward", "keep", "out", "ckpt_path", "config"):
        if getattr(given, name) == "":
            raise ValueError(f"--{name} is empty: give it a value, or leave it out")
    if given.seed < 0:
        raise ValueError(f"--seed must be at least 0, got {given.seed}")
    settings = settings_of(find_config(given.config) if given.config else config_of(given.model))
    if "backbone" not in arguments_of(settings, "model") or "samples" not in arguments_of(settings, "data"):
        raise ValueError(f"--config {given.config} draws no samples: give one of `lidar predict`, such as qm9/lidar")
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
    """Draws the samples that a command line asks for."""
    if {"-h", "--help"} & set(arguments):
        print(options().format_help())
        return
    settings = composed(arguments)
    from lidar_lightning.commands.lightning import lightning_command

    lightning_command({"subcommand": "predict", "predict": settings})
