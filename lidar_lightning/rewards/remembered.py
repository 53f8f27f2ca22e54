"""A reward that is asked once for each sample, counts what it was asked, and keeps the answers in a file."""

import hashlib
from collections.abc import Sequence
from copy import copy
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rdkit import Chem
from torch import Tensor

from lidar_lightning.rewards.base import Reward, score
from lidar_lightning.rewards.molecules import parse
from lidar_lightning.rewards.wrapped import Wrapped
from lidar_lightning.utils.pictures import slug
from lidar_lightning.utils.tables import read_csv, write_csv


class Remembered(Wrapped):
    """Scores of a reward, each asked for once: `calls` counts them.

    A reward of molecules is asked by canonical SMILES, so that another spelling is no other molecule, and strings that
    are none are neither kept nor counted: nothing is there to be measured. Other strings are told apart as they are,
    and pictures by their pixels, to the last bit.

    Args:
        reward: that is asked; not differentiable here, whatever it is itself.
        path: a CSV file with the columns prompt, sample and score in the order of the questions, which is written whole
            or not at all after each of them, and read if it is there; None keeps them in memory.

    Raises:
        ValueError: if the file is damaged, naming it.
    """

    def __init__(self, reward: Reward, path: Path | None = None):
        super().__init__(reward)
        self.path = path
        self._scores: dict[tuple[str, str], float] = {}
        if path and path.exists():
            self._read(path)

    @property
    def calls(self) -> int:
        """How many different samples were scored."""
        return len(self._scores)

    @property
    def asked(self) -> dict[tuple[str, str], float]:
        """Prompt and name of each sample to its score, in the order in which they were asked for."""
        return dict(self._scores)

    def __call__(self, samples: Any, prompts: Sequence[str]) -> Tensor:
        names = [self._name(sample) for sample in samples]
        keys = list(zip(prompts, names, strict=True))
        new: dict[tuple[str, str], int] = {}
        for place, key in enumerate(keys):
            if key not in self._scores:
                new.setdefault(key, place)
        answers: dict[tuple[str, str], float] = {}
        if new:
            chosen = list(new.values())
            asked = (
                samples[chosen] if isinstance(samples, Tensor) else [self._spelt(samples[i], keys[i]) for i in chosen]
            )
            found = score(self.reward, asked, [prompts[place] for place in chosen]).tolist()
            answers = dict(zip(new, found, strict=True))
            counted = {key: value for key, value in answers.items() if key[1]}
            self._scores |= counted
            if self.path and counted:
                self._write(self.path)
        return torch.tensor([self._scores[key] if key in self._scores else answers[key] for key in keys])

    def _name(self, sample: Any) -> str:
        """What a sample is remembered by; nothing, if it is not."""
        if isinstance(sample, Tensor):
            content = sample.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
            return hashlib.sha256(content).hexdigest()
        if self.modality != "molecule":
            return str(sample)
        molecule = parse(sample)
        return "" if molecule is None else Chem.MolToSmiles(molecule)

    def _spelt(self, sample: Any, key: tuple[str, str]) -> Any:
        """The sample as the reward is to see it."""
        return key[1] or sample if self.modality == "molecule" else sample

    def _write(self, path: Path) -> None:
        rows = [(*key, value) for key, value in self._scores.items()]
        write_csv(path, pd.DataFrame(rows, columns=["prompt", "sample", "score"]))

    def _read(self, path: Path) -> None:
        table = read_csv(path, dtype={"prompt": str, "sample": str})
        if list(table) != ["prompt", "sample", "score"] or not pd.api.types.is_numeric_dtype(table["score"]):
            raise ValueError(f"{path} is damaged: it needs the columns prompt, sample and score; delete it")
        self._scores = dict(zip(zip(table["prompt"], table["sample"], strict=True), table["score"], strict=True))


def remembered(reward: Reward, folder: Path | None = None) -> Reward:
    """A reward whose parts are each asked once, as `Remembered`; with a folder, in a file of it for each part."""

    def one(part: Reward) -> Remembered:
        return Remembered(part, folder and folder / f"{slug(part.name)}.csv")

    if reward.parts == [reward]:
        return one(reward)
    other = copy(reward)
    other.parts = [one(part) for part in reward.parts]
    return other


def calls_of(reward: Reward) -> int:
    """How many different samples a reward that `remembered` made has scored."""
    return max(part.calls for part in reward.parts if isinstance(part, Remembered))
