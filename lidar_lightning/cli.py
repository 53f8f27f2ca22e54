"""The command `lidar`: finds the command that is asked for, and turns every error into one line.

Nothing is imported here that usage does not need: torch alone takes seconds.
"""

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from lidar_lightning.commands.texts import HELP, USAGE

HOMES = (
    "lidar_lightning", "lidar_lightning.rewards", "lidar_lightning.samplers", "lidar_lightning.backbones", "datamodules"
)  # fmt: skip
"""Modules whose classes are named in a YAML."""
LIGHTNING = ("fit", "predict", "validate")


def call(function: Callable[..., Any], arguments: Sequence[str]) -> None:
    """Calls a function with the arguments of a command line, and prints what it returns."""
    from jsonargparse import auto_cli

    from lidar_lightning.commands.lightning import Parser

    print(auto_cli(function, args=list(arguments), parser_class=Parser))


def configured(command: str, arguments: Sequence[str]) -> None:
    """Runs a command that takes a configuration; --help-all shows the whole help of its parser."""
    from lidar_lightning.commands.configs import check_command, with_paths
    from lidar_lightning.commands.lightning import Parser, lightning_command

    check_command(command, arguments)
    given = ["--help" if argument == "--help-all" else argument for argument in with_paths(arguments)]
    if command in LIGHTNING:
        lightning_command([command, *given])
        return
    if command == "rounds":
        from lidar_lightning.commands.rounds import rounds_command
        from recipes.rounds import Rounds

        print(rounds_command(given, Rounds, Parser))
        return
    from lidar_lightning.runs.compare_command import compare_command

    print(compare_command(given, Parser))


def run(arguments: Sequence[str]) -> None:
    """Runs the command of a command line."""
    command, rest = (arguments[0], arguments[1:]) if arguments else ("--help", ())
    if command in {"-h", "--help"}:
        print(USAGE)
    elif command in HELP and {"-h", "--help"} & set(rest):
        print(HELP[command])
    elif command == "config":
        from lidar_lightning.commands.configs import config_command

        if len(rest) > 1:
            raise ValueError(f"lidar config takes one name, got {' '.join(rest)}")
        print(config_command(*rest))
    elif command == "sample":
        from lidar_lightning.commands.sample import sample_command

        sample_command(rest)
    elif command == "demo":
        from recipes.demo import main as demo

        call(demo, rest)
    elif command == "report":
        from lidar_lightning.runs.report import write_report

        call(write_report, rest)
    elif command == "push":
        from lidar_lightning.runs.push import push

        call(push, ["--dry_run=true" if option in ("--dry-run", "--dry_run") else option for option in rest])
    elif command in (*LIGHTNING, "compare", "rounds"):
        configured(command, rest)
    else:
        from lidar_lightning.utils.errors import closest

        raise ValueError(f"unknown command {command!r}: {closest(command, (*HELP, 'sample'))} (lidar --help)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command.

    Returns:
        0; 2 after a line that names the cause when the input is at fault; 1 after a line that says so when this
        software is. With --debug, which may stand anywhere, the traceback comes first.
    """
    from lidar_lightning.commands.console import console
    from lidar_lightning.utils.lifetime import end_with_parent

    end_with_parent()
    given = sys.argv[1:] if arguments is None else list(arguments)
    debug = "--debug" in given
    try:
        with console(debug):
            run([argument for argument in given if argument != "--debug"])
            sys.stdout.flush()
    except BrokenPipeError:  # what reads our output, such as `head`, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from lidar_lightning.utils.errors import one_line

        if debug:
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
