"""`lidar rounds`: the configuration goes into the folder of the run, and the end is a small table with paths."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile

from lidar_lightning.runs.data import read_summary
from lidar_lightning.runs.rounds import closing_rounds
from lidar_lightning.runs.used_config import write_config


def rounds_command(arguments: Sequence[str], rounds: type, parser_class: Any) -> str:
    """Goes through the rounds that a command line says, e.g. ["--config", FILE, "--rounds", "8"].

    Args:
        rounds: `recipes.rounds.Rounds`, which no command may import.

    Returns:
        what to print.

    Raises:
        ValueError: as `rounds`.
    """
    parser = parser_class()
    parser.add_argument("--config", action=ActionConfigFile)
    parser.add_class_arguments(rounds, as_group=False)
    config = parser.parse_args(list(arguments))
    config.pop("config", None)
    text = parser.dump(config, skip_none=False)
    settings = getattr(parser, "instantiate", parser.instantiate_classes)(config)
    run = rounds(**settings)
    run.open()
    write_config(run.out, text)
    return closing_rounds(Path(run.run()).parent, read_summary(run.out)["methods"])
