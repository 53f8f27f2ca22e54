"""A slow reward, scored by several processes."""

import multiprocessing
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.rewards.base import Reward, check_reward, score
from lidar_lightning.rewards.wrapped import Wrapped
from lidar_lightning.utils.lifetime import PARENT, end_with_parent


class Parallel(Wrapped):
    """Another reward of molecules, in processes of its own: the same scores, name and identity.

    The processes start with the first batch that is worth it, which takes seconds, and end with this one. In a script
    they need the usual `if __name__ == "__main__":`; a function of the user must be importable.

    Args:
        reward: which scores each sample by itself.
        processes: how many.
        chunk: samples that a process is given at a time; fewer than two chunks are scored without processes.

    Raises:
        ValueError: if the reward does not score molecules, is relative to other samples or is several, or a number is
            below 1.
    """

    def __init__(self, reward: Reward, processes: int = 2, chunk: int = 64):
        check_reward(reward)
        if reward.parts != [reward] or reward.modality == "image":
            raise ValueError(f"{reward.name!r} is several rewards, or of pictures: Parallel is of one, of molecules")
        if processes < 1 or chunk < 1:
            raise ValueError(f"Parallel takes one or more processes and samples at a time, got {processes} and {chunk}")
        super().__init__(reward)
        self.processes, self.chunk, self.needs_atoms = processes, chunk, getattr(reward, "needs_atoms", 0)
        self._pool: ProcessPoolExecutor | None = None

    def __getstate__(self) -> Mapping[str, Any]:
        return {**self.__dict__, "_pool": None}

    def __call__(self, samples: Sequence[str], prompts: Sequence[str]) -> Tensor:
        starts = range(0, len(samples), self.chunk)
        if len(starts) < 3 or self.processes == 1:
            return score(self.reward, samples, prompts)
        if self._pool is None:
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(self.processes, context, _begin, (self.reward, os.getpid()))
        chunks = [(samples[at : at + self.chunk], prompts[at : at + self.chunk]) for at in starts]
        return torch.cat([torch.tensor(found) for found in self._pool.map(_score, *zip(*chunks, strict=True))])


_reward: Reward | None = None


def _begin(reward: Reward, parent: int) -> None:
    """The start of a process: one thread, and an end with the parent."""
    global _reward
    _reward = reward
    torch.set_num_threads(1)
    os.environ[PARENT] = str(parent)
    end_with_parent()


def _score(samples: Sequence[str], prompts: Sequence[str]) -> list[float]:
    assert _reward is not None
    return score(_reward, samples, prompts).tolist()
