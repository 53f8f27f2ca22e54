"""The commands fit, validate and predict, which LightningCLI builds from a YAML."""

import re
from argparse import ArgumentError
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import lightning as L
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import BasePredictionWriter
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.plugins import TorchCheckpointIO

from lidar_lightning.modules.checkpoint_file import read_checkpoint
from lidar_lightning.modules.checkpoint_io import WholeCheckpointIO
from lidar_lightning.modules.checkpoints import claim_folders
from lidar_lightning.runs.terminal import closing
from lidar_lightning.runs.used_config import SaveUsedConfig
from lidar_lightning.utils.files import expand
from lidar_lightning.utils.parser import SettingsParser

COMMANDS = ("fit", "validate", "predict")


class Parser(SettingsParser, LightningArgumentParser):
    """A parser that raises an error, with its options and the file at fault, where it would print its usage."""

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
        """Parses. jsonargparse hands the null of a nested setting on as the text None; here it is null again."""
        given = args if args is None else [re.sub("=None$", "=null", argument) for argument in args]
        return super().parse_args(given, *rest, **settings)

    def parse_path(self, cfg_path: Any, *args: Any, **settings: Any) -> Namespace:
        try:
            return super().parse_path(cfg_path, *args, **settings)
        except Exception as error:
            error.add_note(str(cfg_path))
            raise


class LidarCLI(LightningCLI):
    """LightningCLI with the subcommands that make sense here; the YAML names the classes.

    Args:
        commands: those to make a parser of, which takes a tenth of a second each.
    """

    def __init__(self, *args: Any, commands: Sequence[str] = COMMANDS, **settings: Any):
        self.commands = commands
        super().__init__(*args, **{"parser_class": Parser, **settings})

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        return {name: LightningCLI.subcommands()[name] for name in self.commands}

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
        """Raises ValueError if nothing would keep the samples."""
        writers = [callback for callback in self.trainer.callbacks if isinstance(callback, BasePredictionWriter)]  # type: ignore[attr-defined]
        if getattr(self.model, "out", "") is None and not writers:
            raise ValueError(
                "out is null, so that all samples would be thrown away: give --model.init_args.out FOLDER, or a "
                "callback that writes predictions"
            )

    def after_predict(self) -> None:
        """Prints the numbers and paths of the run, unless it was stopped."""
        out = getattr(self.model, "out", None)
        if out and self.trainer.is_global_zero and (expand(out) / "summary.json").is_file():
            print(closing(expand(out)))

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        """Checkpoints are loaded with weights only, also those of a URL, which Lightning would unpickle."""
        return {**super()._prepare_subcommand_kwargs(subcommand), "weights_only": True}


def lightning_command(arguments: Sequence[str] | Mapping[str, Any]) -> None:
    """Runs fit, validate or predict, from the arguments of a command line or their dictionary."""
    LidarCLI(
        L.LightningModule,
        L.LightningDataModule,
        subclass_mode_model=True,
        subclass_mode_data=True,
        save_config_callback=SaveUsedConfig,
        seed_everything_default=0,
        commands=[arguments["subcommand"] if isinstance(arguments, Mapping) else arguments[0]],
        args=dict(arguments) if isinstance(arguments, Mapping) else list(arguments),
    )
