"""A jsonargparse parser that knows how our classes and commands are made."""

import inspect
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser


class SettingsParser(ArgumentParser):
    """Finds every setting of a class method such as `from_pretrained`, including those that it passes to its class.

    Options are written out in full: an abbreviation could mean another setting once there are more of them.
    """

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def add_function_arguments(self, function: Callable, *args: Any, **options: Any) -> list[str]:
        owner = getattr(function, "__self__", None)
        if inspect.isclass(owner):
            return self.add_method_arguments(owner, function.__name__, *args, **options)
        return super().add_function_arguments(function, *args, **options)

    def add_argument(self, *names: Any, **options: Any) -> Any:
        """Adds an argument; --config may be written -c in every command."""
        return super().add_argument(*(("-c",) if names == ("--config",) else ()), *names, **options)
