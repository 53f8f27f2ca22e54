"""The command `lidar`: fit, validate and predict by LightningCLI from a YAML, and demo, compare and report."""

import logging
import re
import sys
import traceback
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
from jsonargparse import Namespace, auto_cli
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import TorchCheckpointIO

from lidar_lightning.modules.checkpoint_file import read_checkpoint
from lidar_lightning.modules.checkpoint_io import WholeCheckpointIO
from lidar_lightning.modules.checkpoints import claim_folders
from lidar_lightning.runs.compare_command import compare_command
from lidar_lightning.runs.report import write_report
from lidar_lightning.runs.used_config import SaveUsedConfig
from lidar_lightning.utils.errors import closest, one_line
from lidar_lightning.utils.lifetime import end_with_parent
from lidar_lightning.utils.parser import SettingsParser

logger = logging.getLogger("lidar_lightning")
HOMES = (
    "lidar_lightning", "lidar_lightning.rewards", "lidar_lightning.samplers", "lidar_lightning.backbones", "datamodules"
)  # fmt: skip
"""Modules whose classes are named in a YAML."""
USAGE = """usage: lidar COMMAND ...

  fit       train or fine-tune:    lidar fit -c configs/qm9/dpo.yaml
  validate  validate:              lidar validate -c configs/qm9/pretrain.yaml --ckpt_path CHECKPOINT
  predict   sample with guidance:  lidar predict -c configs/qm9/lidar.yaml [--ckpt_path CHECKPOINT]
  demo      vanilla, LiDAR, DPO and DPO+LiDAR on molecules and pictures, in minutes, without a download
  compare   samplers at equal budgets:  lidar compare -c configs/shapes/compare.yaml [--processes N]
  report    write RUN/report.html: lidar report RUN

`lidar COMMAND --help` lists the options of each; --debug shows the traceback of an error."""


class Parser(SettingsParser, LightningArgumentParser):
    """Raises what it finds wrong, with its options and the file where it stands, in place of printing its usage."""

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **{**settings, "exit_on_error": False})

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        try:
            super().error(message, ex)
        except ArgumentError as error:
            subparsers = [parser for a in self._actions if isinstance(a.choices, dict) for parser in a.choices.values()]
            error.options = [o for parser in (self, *subparsers) for o in parser._option_string_actions]  # type: ignore[attr-defined]
            raise

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, *rest: Any, **settings: Any
    ) -> Namespace:
        """jsonargparse hands the null of a nested setting on as the text None: here that is null as well."""
        given = args if args is None else [re.sub("=None$", "=null", argument) for argument in args]
        return super().parse_args(given, *rest, **settings)

    def parse_path(self, cfg_path: Any, *args: Any, **settings: Any) -> Namespace:
        try:
            return super().parse_path(cfg_path, *args, **settings)
        except Exception as error:
            error.add_note(str(cfg_path))
            raise


class LidarCLI(LightningCLI):
    """LightningCLI with the subcommands that mean something here; classes are named in the YAML."""

    def __init__(self, *args: Any, **settings: Any):
        super().__init__(*args, **{"parser_class": Parser, **settings})

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {name: LightningCLI.subcommands()[name] for name in ("fit", "validate", "predict")}

    def instantiate_trainer(self, **settings: Any) -> L.Trainer:
        try:
            trainer = super().instantiate_trainer(**settings)
        except (MisconfigurationException, TypeError, ValueError) as error:
            chosen = {key: self._get(self.config, f"trainer.{key}") for key in ("accelerator", "devices", "strategy")}
            given = ", ".join(f"{key} {value}" for key, value in chosen.items())
            raise ValueError(f"the trainer cannot run with these settings ({given}): {error}") from error
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = WholeCheckpointIO()
        return trainer

    def before_fit(self) -> None:
        claim_folders(self.trainer, self._get(self.config, "ckpt_path"))

    def _parse_ckpt_path(self) -> None:
        """Checks a checkpoint before anything is built. It gives weights only: never the module or its arguments."""
        settings = self.config[self.config.subcommand]
        path = settings.get("ckpt_path")
        elsewhere = path in ("best", "last", "hpc") or str(path).startswith("registry") or "://" in str(path)
        if path and not elsewhere:
            read_checkpoint(path, resume=self.config.subcommand == "fit")
            settings.ckpt_path = str(Path(path).expanduser())

    def before_predict(self) -> None:
        """Raises ValueError if nothing keeps what is going to be drawn."""
        writers = [callback for callback in self.trainer.callbacks if isinstance(callback, BasePredictionWriter)]  # type: ignore[attr-defined]
        if getattr(self.model, "out", "") is None and not writers:
            raise ValueError(
                "out is null, so that all samples would be thrown away: give --model.init_args.out FOLDER, or a "
                "callback that writes predictions"
            )

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Checkpoints are loaded with weights only, also those of a URL, which Lightning would unpickle."""
        return {**super()._prepare_subcommand_kwargs(subcommand), "weights_only": True}


def call(function: Callable[..., Any], arguments: Sequence[str], **settings: Any) -> None:
    """Calls a function with what its command line says, and prints what it returns."""
    print(auto_cli(function, args=list(arguments), parser_class=Parser, **settings))


def run(arguments: Sequence[str]) -> None:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", ())
    if command in {"-h", "--help"}:
        print(USAGE)
    elif command == "demo":
        from recipes.demo import main as demo

        call(demo, rest)
    elif command == "report":
        call(write_report, rest)
    elif command == "compare":
        print(compare_command(rest, Parser))
    elif command in LidarCLI.subcommands():
        LidarCLI(
            L.LightningModule,
            L.LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveUsedConfig,
            seed_everything_default=0,
            args=list(arguments),
        )
    else:
        known = (*LidarCLI.subcommands(), "demo", "compare", "report")
        raise ValueError(f"unknown command {command!r}: {closest(command, known)} (lidar --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0; 2 after a line that names the cause when the input is at fault; 1 after a line that says so when this
        software is. With --debug, which may stand anywhere, the traceback comes first.
    """
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*args parameter is intended to run.*")
    end_with_parent()
    given = sys.argv[1:] if arguments is None else list(arguments)
    try:
        run([argument for argument in given if argument != "--debug"])
    except Exception as error:
        if "--debug" in given:
            traceback.print_exception(error)
        line, guilty = one_line(error, HOMES)
        advice = (
            "" if guilty else "; this looks like a fault of lidar-lightning: please report it with what --debug shows"
        )
        print(f"lidar: error: {line}{advice}", file=sys.stderr)
        return 2 if guilty else 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
