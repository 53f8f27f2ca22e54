"""Any function as a reward, from Python or by its import path."""

import importlib
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from torch import Tensor

from lidar_lightning.rewards.base import Reward
from lidar_lightning.rewards.scores import as_scores, own_copy
from lidar_lightning.utils.describe import describe, digest


class CallableReward(Reward):
    """Any callable with the signature (samples, prompts) -> sequence of n numbers; it is given copies.

    Args:
        path: the callable, or its import path: "package.module:function" or "package.module.function".
        name: the name in banks and reports; by default the callable's own.
        version: change it whenever the callable's scores change, so that stored banks are scored again.
        higher_is_better: whether high numbers are good.
        differentiable: whether it returns a tensor through which gradients flow to the samples.
        modality: "molecule", "image" or "any".

    Raises:
        ValueError: if nothing callable is found at the path.
    """

    def __init__(
        self,
        path: str | Callable[[Any, Sequence[str]], Any],
        name: str | None = None,
        version: str = "1",
        higher_is_better: bool = True,
        differentiable: bool = False,
        modality: str = "any",
    ):
        self.function = import_object(path) if isinstance(path, str) else path
        if not callable(self.function):
            raise ValueError(f"the reward at {path!r} is a {type(self.function).__name__}, not a callable")
        self.name = str(name or getattr(self.function, "__name__", type(self.function).__name__))
        self.version, self.differentiable, self.modality = version, differentiable, modality
        self.higher_is_better = higher_is_better
        # Now, since what a function refers to may change while it scores.
        self._function = describe(self.function)

    @property
    def identity(self) -> str:
        return f"{self.version}, {self._function if isinstance(self._function, str) else digest([self._function])}"

    def __call__(self, samples: Any, prompts: Sequence[str]) -> Tensor:
        return as_scores(self.name, self.function(own_copy(samples), list(prompts)))


def load_reward(spec: Reward | type[Reward] | str | Callable[[Any, Sequence[str]], Any]) -> Reward:
    """Makes a reward from what a user gives: a Reward, a Reward class, a callable, or the import path of one of these.

    Raises:
        ValueError: if an import path is unknown, or leads to something that cannot score.
    """
    found = import_object(spec) if isinstance(spec, str) else spec
    if isinstance(found, type) and issubclass(found, Reward):
        return found()
    return found if isinstance(found, Reward) else CallableReward(found)


def import_object(path: str) -> Any:
    """Imports what "package.module:attribute" or "package.module.attribute" names.

    Raises:
        ValueError: if the module cannot be imported, fails or exits, or has no such attribute. The message has the
            path.
    """
    module, _, attribute = path.partition(":") if ":" in path else path.rpartition(".")
    if not module or not attribute:
        raise ValueError(f"{path!r} is not an import path: write 'package.module:function'")
    try:
        return reduce(getattr, attribute.split("."), importlib.import_module(module))
    except (ImportError, AttributeError, TypeError) as error:
        raise ValueError(
            f"nothing to import at {path!r}: {error}; the module must be installed or in a folder on PYTHONPATH"
        ) from error
    except (Exception, SystemExit) as error:
        raise ValueError(f"importing {path!r} failed with {type(error).__name__}: {error}; mend {module!r}") from error
