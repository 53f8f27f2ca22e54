"""`lidar compare`: the configuration goes into the folder of the comparison, and several processes work from it."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jsonargparse import auto_parser

from lidar_lightning.runs.comparison import Comparison, compare
from lidar_lightning.runs.used_config import write_config
from lidar_lightning.utils import lifetime
from lidar_lightning.utils.parser import SettingsParser

WORKER = """
import runpy, sys
runpy.run_path(sys.argv[1])["end_with_parent"]()
from lidar_lightning.runs.compare_command import read
read(["--config", sys.argv[2]])[0].work()
"""
"""A process is tied to its parent before the imports, which may take a minute on a busy machine."""


def compare_command(arguments: Sequence[str], parser_class: Any = SettingsParser) -> str:
    """Draws and tabulates the comparison of a command line, such as ["--config", FILE, "--processes", "2"].

    Returns:
        the path of the report.

    Raises:
        ValueError: as `Comparison`, or if `processes` is below 1.
    """
    comparison, processes, text = read(arguments, parser_class)
    if processes < 1:
        raise ValueError(f"processes must be at least 1, got {processes}")
    comparison.open()
    with workers(write_config(comparison.out, text), processes - 1) as others:
        comparison.work()
        for other in others:
            other.wait()
    return str(comparison.finish())


def read(arguments: Sequence[str], parser_class: Any = SettingsParser) -> tuple[Comparison, int, str]:
    """The comparison of a command line, the number of its processes, and its configuration as YAML."""
    parser = auto_parser(compare, as_positional=False, parser_class=parser_class)
    config = parser.parse_args(list(arguments))
    config.pop("config", None)
    processes, text = config.pop("processes"), parser.dump(config)
    # The older name of the method is deprecated, the newer one newer than the oldest supported version.
    settings = getattr(parser, "instantiate", parser.instantiate_classes)(config)
    return Comparison(**settings), processes, text


@contextmanager
def workers(config: Path, count: int) -> Iterator[list[subprocess.Popen]]:
    """Starts processes that work on the comparison of a configuration file; they end when this one does."""
    lifetime.end_with_parent()
    command = [sys.executable, "-c", WORKER, lifetime.__file__, str(config)]
    others = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield others
    finally:
        for other in others:
            other.kill()
            other.wait()
