"""What jsonargparse is to know of our classes and commands."""

import inspect
from collections.abc import Callable
from typing import Any

from jsonargparse import ArgumentParser


class SettingsParser(ArgumentParser):
    """Sees every setting of a class method such as `from_pretrained`, those that it hands to its class included."""

    def add_function_arguments(self, function: Callable, *args: Any, **options: Any) -> list[str]:
        owner = getattr(function, "__self__", None)
        if inspect.isclass(owner):
            return self.add_method_arguments(owner, function.__name__, *args, **options)
        return super().add_function_arguments(function, *args, **options)

    def add_argument(self, *names: Any, **options: Any) -> Any:
        """Every command takes -c for --config."""
        return super().add_argument(*(("-c",) if names == ("--config",) else ()), *names, **options)
