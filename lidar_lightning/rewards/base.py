"""The contract of a reward, which scores decoded samples, and the checks of its name and of its answer."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, Self

import torch
from torch import Tensor, nn

from lidar_lightning.rewards.scores import as_scores, own_copy
from lidar_lightning.utils.describe import describe, digest, is_package, public_settings
from lidar_lightning.utils.weights import fingerprint

RESERVED = ("prompt", "index", "sample", "samples", "diversity", "nfe", "seconds", "lookahead_seconds")
"""Columns of the tables that are no rewards."""
TRAITS = ("name", "version", "differentiable", "higher_is_better", "modality")


class Reward(ABC):
    """Scores decoded samples, one number per sample. Call it through `score`, which checks the answer.

    Stored scores belong to the reward's `identity`. For a class of your own it follows the code, the arguments that the
    reward was made with, and its public attributes. What changes while it scores belongs in attributes that begin with
    "_".

    Attributes:
        name: the name of its column in banks and reports, such as "qed".
        version: part of the identity; change it whenever equal samples would get another score for a reason that the
            code and the arguments do not show, such as new weights in a file.
        differentiable: whether gradients flow from the scores to the samples.
        higher_is_better: whether high scores are good. Guidance always maximises, so it takes `utility(reward,
            scores)`.
        modality: what is scored: "molecule" (SMILES strings), "image" (pixels) or "any".
    """

    name: str
    version: str = "1"
    differentiable: bool = False
    higher_is_better: bool = True
    modality: str = "any"
    _made_with: tuple[Any, ...] = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        if (args or kwargs) and cls.__init__ is object.__init__:
            raise TypeError(f"{cls.__name__}() takes no arguments, got {args or kwargs}")
        made = super().__new__(cls)
        made._made_with = (args, kwargs)
        return made

    @property
    def identity(self) -> str:
        """What tells its scores from those of any other reward: stored scores of another identity are scored again."""
        if is_package(type(self)):
            return self.version
        settings: Any = {key: value for key, value in public_settings(self).items() if key not in TRAITS}
        if isinstance(self, nn.Module):
            settings = fingerprint("", self.state_dict())
        return f"{self.version}, {describe(type(self))} {digest([self._made_with, settings])}"

    def described(self) -> dict[str, Any]:
        """Everything about it on which the samples that it guides depend."""
        return {"name": self.name, "version": self.identity, "higher_is_better": self.higher_is_better}

    @property
    def relative(self) -> bool:
        """Whether the score of a sample depends on those that it is scored with: see `frozen`."""
        return False

    def frozen(self, scores: Mapping[str, Tensor]) -> "Reward":
        """This reward on the scale of these scores of its parts, by name: no longer relative to what it scores.

        Raises:
            ValueError: if it has no such scale.
        """
        return self

    @abstractmethod
    def __call__(self, samples: Any, prompts: Sequence[str]) -> Tensor:
        """Scores (n,) float32 of n decoded samples, with one prompt per sample."""

    def check_prompts(self, prompts: Sequence[str]) -> None:  # noqa: B027
        """Raises ValueError for a prompt that it cannot score; called before anything is drawn. By default all pass."""

    @cached_property
    def parts(self) -> list["Reward"]:
        """The rewards whose scores are stored and determine this one: itself, unless it combines others."""
        return [self]

    @property
    def components(self) -> list["Reward"]:
        """The rewards that this one weighs against each other: itself, unless it combines others."""
        return [self]

    def from_scores(self, scores: Mapping[str, Tensor]) -> Tensor:
        """What guidance maximises (n,), from stored scores of the parts by name.

        Raises:
            ValueError: if a reward has no scores; the message names it.
        """
        if self.name not in scores:
            raise ValueError(f"no scores of {self.name!r} are stored, only of {sorted(scores)}: score it first")
        return utility(self, scores[self.name])


def score(reward: Reward, samples: Any, prompts: Sequence[str]) -> Tensor:
    """The scores (n,) float32 of n samples, checked. A reward of your own is given copies, which it may edit.

    The score of a video by a reward of pictures is the mean over its frames; other rewards are given the whole.

    Args:
        reward: any reward.
        samples: what the backbone decodes to: n strings, pictures (n, 3, H, W) or videos (n, F, 3, H, W).
        prompts: one per sample.

    Raises:
        ValueError: if this is not a reward, if it fails (its error is the cause) or exits, if it returns anything but n
            real numbers, or if a score is NaN or infinite. Every message names the reward.
        torch.OutOfMemoryError: if the reward runs out of memory.
    """
    check_reward(reward)
    if isinstance(samples, Tensor) and samples.ndim == 5 and reward.modality == "image":
        frames = samples.shape[1]
        each = [prompt for prompt in prompts for _ in range(frames)]
        return score(reward, samples.flatten(0, 1), each).view(-1, frames).mean(1)
    try:
        given = samples if is_package(type(reward)) else own_copy(samples)
        returned = reward(given, prompts if isinstance(prompts, str) else list(prompts))
    except torch.OutOfMemoryError:
        raise
    except (Exception, SystemExit) as error:
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
        first = own_copy(samples)[bad[0]]
        shown = f": {first!r}" if isinstance(first, str) else ""
        raise ValueError(
            f"reward {reward.name!r}: {len(bad)} of {len(scores)} scores are NaN or infinite, the first for sample "
            f"{bad[0]}{shown}; give samples that cannot be scored a floor, a finite number below every good score"
        )
    return scores


def named(value: Any) -> str:
    """How a message calls a value: by its kind, and its name if it has one."""
    kind = "the class" if isinstance(value, type) else f"a {type(value).__name__}"
    return f"{kind} {getattr(value, '__name__', '')}".rstrip()


def check_reward(reward: Any) -> None:
    """Raises ValueError unless this is a reward whose name can be that of a column."""
    if not isinstance(reward, Reward):
        name, made = getattr(reward, "__name__", ""), isinstance(reward, type) and issubclass(reward, Reward)
        advice = f"make one, {name}()" if made else f"wrap a function as CallableReward({name or 'function'})"
        raise ValueError(f"a reward must be a Reward, got {named(reward)}: {advice}")
    name, kind = getattr(reward, "name", None), type(reward).__name__
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f'a {kind} needs a name for its scores, got {name!r}: write name = "..." in its class')
    if name in RESERVED:
        raise ValueError(f"a {kind} is called {name!r}, which is another column of the tables: give it another name")


def scored_rewards(reward: Reward, metrics: Sequence[Reward] = ()) -> list[Reward]:
    """All rewards that a run scores, each once: the parts of the guiding one, then the metrics.

    Raises:
        ValueError: if one is not a reward, or if two different ones have the same name.
    """
    if isinstance(metrics, Reward) or not isinstance(metrics, Sequence):
        raise ValueError(f"metrics is a list of rewards, got {type(metrics).__name__}: write it as [...]")
    for one in (reward, *metrics):
        check_reward(one)
    found: dict[str, Reward] = {}
    for one in [*reward.parts, *metrics]:
        if found.setdefault(one.name, one).described() != one.described():
            raise ValueError(f"two different rewards are called {one.name!r}: give one of them another name")
    if taken := {reward.name, "reward"} & found.keys() - {part.name for part in reward.parts}:
        raise ValueError(f"a metric is called {taken.pop()!r}, the column of the guiding reward: give it another name")
    return list(found.values())


def utility(reward: Reward, scores: Tensor) -> Tensor:
    """What guidance maximises: the scores where higher is better, else their negative.

    Banks, tables and reports keep the scores as the reward returned them; only here is their sign turned.
    """
    return scores if reward.higher_is_better else -scores


def check_floor(floor: float) -> float:
    """Returns the floor, the score of samples that cannot be scored; raises ValueError unless it is finite."""
    if not math.isfinite(floor):
        raise ValueError(f"the floor, the score of samples that cannot be scored, must be finite, got {floor}")
    return float(floor)
