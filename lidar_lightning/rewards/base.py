"""What scores decoded samples: the contract of a reward, the check of its answer, and any callable as a reward."""

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, reduce
from typing import Any

import torch
from torch import Tensor


class Reward(ABC):
    """Scores decoded samples, one number per sample. Call it through `score`, which checks the answer.

    Attributes:
        name: column of a bank and of a report, e.g. "qed".
        version: goes into a bank's provenance; change it whenever equal samples would get another score.
        differentiable: whether gradients flow from the scores to the samples.
        higher_is_better: what the scores mean. Guidance always maximises, so it takes `utility(reward, scores)`.
        modality: what is scored: "molecule" (SMILES strings), "image" (pixels) or "any".
    """

    name: str
    version: str = "1"
    differentiable: bool = False
    higher_is_better: bool = True
    modality: str = "any"

    @abstractmethod
    def __call__(self, samples: Any, prompts: Sequence[str]) -> Tensor:
        """Scores (n,) float32 of n decoded samples, with one prompt per sample."""

    @cached_property
    def parts(self) -> list["Reward"]:
        """The rewards whose scores are stored, and from which this one follows: itself, unless it combines others."""
        return [self]

    def from_scores(self, scores: Mapping[str, Tensor]) -> Tensor:
        """What guidance maximises (n,), from stored scores of the parts by name.

        Raises:
            ValueError: naming the reward that has no scores.
        """
        if self.name not in scores:
            raise ValueError(f"no scores of {self.name!r} are stored, only of {sorted(scores)}: score it first")
        return utility(self, scores[self.name])


def score(reward: Reward, samples: Any, prompts: Sequence[str]) -> Tensor:
    """The scores (n,) float32 of n samples, checked.

    Args:
        reward: any reward.
        samples: what the backbone decodes to: n strings, or pixels (n, ...).
        prompts: one per sample.

    Raises:
        ValueError: if the reward fails, with its error as the cause, returns something other than n numbers, or a score
            is NaN or infinite. Every message names the reward.
    """
    try:
        returned = reward(samples, prompts)
    except Exception as error:
        if isinstance(error, ValueError) and repr(reward.name) in str(error):
            raise
        raise ValueError(
            f"reward {reward.name!r} failed on {len(samples)} samples: {type(error).__name__}: {error}"
        ) from error
    scores = as_scores(reward.name, returned)
    if scores.shape != (len(samples),):
        received = f"{len(scores)} scores" if scores.ndim == 1 else f"scores of shape {tuple(scores.shape)}"
        raise ValueError(
            f"reward {reward.name!r} returned {received} for {len(samples)} samples: return one number per sample"
        )
    bad = (~scores.isfinite()).nonzero().flatten().tolist()
    if bad:
        first = samples[bad[0]]
        shown = f": {first!r}" if isinstance(first, str) else ""
        raise ValueError(
            f"reward {reward.name!r}: {len(bad)} of {len(scores)} scores are NaN or infinite, the first for sample "
            f"{bad[0]}{shown}; give samples that cannot be scored a floor, a finite number below every good score"
        )
    return scores


def utility(reward: Reward, scores: Tensor) -> Tensor:
    """What guidance maximises: the scores where higher is better, else their negative.

    Banks, tables and reports keep the scores as the reward returned them; the sign turns here and nowhere else.
    """
    return scores if reward.higher_is_better else -scores


def as_scores(name: str, values: Any) -> Tensor:
    """What a reward returned as a float32 tensor. Raises ValueError naming the reward if it is not numbers."""
    try:
        return torch.as_tensor(values, dtype=torch.float32)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"reward {name!r} returned {type(values).__name__}, which is not a sequence of numbers: {error}"
        ) from error


class CallableReward(Reward):
    """Any callable with the signature (samples, prompts) -> sequence of n numbers.

    Args:
        path: the callable, or where to import it from: "package.module:function" or "package.module.function".
        name: in banks and reports; by default the callable's own.
        version: change it whenever the callable's scores change, so that stored banks are scored again.
        higher_is_better: what its numbers mean.
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

    def __call__(self, samples: Any, prompts: Sequence[str]) -> Tensor:
        return as_scores(self.name, self.function(samples, prompts))


def load_reward(spec: Reward | type[Reward] | str | Callable[[Any, Sequence[str]], Any]) -> Reward:
    """A reward from whatever a user names it by: a Reward, a Reward class, a callable, or an import path to one.

    Raises:
        ValueError: if an import path is unknown or leads to something that cannot score.
    """
    found = import_object(spec) if isinstance(spec, str) else spec
    if isinstance(found, type) and issubclass(found, Reward):
        return found()
    return found if isinstance(found, Reward) else CallableReward(found)


def import_object(path: str) -> Any:
    """What "package.module:attribute" or "package.module.attribute" names.

    Raises:
        ValueError: naming the path, if the module cannot be imported or has no such attribute.
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


def check_floor(floor: float) -> float:
    """The floor, if it is finite. Raises ValueError otherwise."""
    if not math.isfinite(floor):
        raise ValueError(f"the floor, the score of samples that cannot be scored, must be finite, got {floor}")
    return float(floor)
