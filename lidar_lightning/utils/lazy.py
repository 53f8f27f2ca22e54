"""Names that are imported when they are first used: image models need seconds of imports that molecules do not."""

import importlib
from collections.abc import Callable, Mapping
from typing import Any


def lazy_attributes(module: str, homes: Mapping[str, str]) -> Callable[[str], Any]:
    """A module's `__getattr__` (PEP 562) that imports each name of `homes` from the module that defines it.

    A name that is given its own module's path stands for that module itself.
    """

    def getattribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home = importlib.import_module(homes[name])
        return home if homes[name] == f"{module}.{name}" else getattr(home, name)

    return getattribute
