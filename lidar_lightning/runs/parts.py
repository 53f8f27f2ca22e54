"""Parts: finished samples of a run, in memory and on disk. Samples can be taken from a part, and parts joined."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lidar_lightning.utils.tensor_files import load_tensors, save_tensors

PLAIN = ("prompts", "indices", "decoded", "seconds", "nfe", "diagnostics", "spent")
"""The fields of a part that are not tensors."""


@dataclass
class Part:
    """Samples that were finished together, each with its prompt and its index among the samples of that prompt."""

    prompts: Sequence[str]
    """One per sample (n)."""
    indices: Sequence[int]
    """One per sample (n)."""
    samples: Tensor
    """Clean samples (n, *S)."""
    decoded: Sequence[str] | Tensor
    """What the rewards scored: SMILES strings, or pixels (n, 3, H, W); of a stored part the names of PNG files."""
    scores: Mapping[str, Tensor]
    """Reward name to (n,) float32."""
    seconds: float
    nfe: float
    """Network calls per sample, without the lookahead."""
    diagnostics: Sequence[Mapping[str, float]] = ()
    """What the guidance did at each step, the mean over these samples."""
    spent: Mapping[str, float] = field(default_factory=dict)
    """Of a comparison: what its meter counted per sample."""

    def rows(self) -> list[tuple[str, int]]:
        """Prompt and index of each sample."""
        return list(zip(self.prompts, self.indices, strict=True))

    def take(self, places: Sequence[int]) -> "Part":
        """The samples at these places, with their share of the time that the part took."""
        decoded = self.decoded
        return replace(
            self,
            prompts=[self.prompts[place] for place in places],
            indices=[self.indices[place] for place in places],
            samples=self.samples[list(places)],
            decoded=decoded[list(places)] if isinstance(decoded, Tensor) else [decoded[place] for place in places],
            scores={name: value[list(places)] for name, value in self.scores.items()},
            seconds=self.seconds * len(places) / len(self.indices),
        )

    def table(self) -> pd.DataFrame:
        """Columns prompt, index, sample and one for each reward."""
        scores = {name: value.tolist() for name, value in self.scores.items()}
        return pd.DataFrame(
            {"prompt": list(self.prompts), "index": list(self.indices), "sample": list(self.decoded), **scores}
        )


def join(parts: Sequence[Part]) -> Part:
    """All samples of parts of one run as one part."""
    first, decoded = parts[0], [part.decoded for part in parts]
    if isinstance(first.decoded, Tensor):
        together: Sequence[str] | Tensor = torch.cat(decoded)  # type: ignore[arg-type]
    else:
        together = [one for some in decoded for one in some]
    return replace(
        first,
        prompts=[prompt for part in parts for prompt in part.prompts],
        indices=[index for part in parts for index in part.indices],
        samples=torch.cat([part.samples for part in parts]),
        decoded=together,
        scores={name: torch.cat([part.scores[name] for part in parts]) for name in first.scores},
        seconds=sum(part.seconds for part in parts),
        diagnostics=mean_steps(parts),
    )


def mean_steps(parts: Sequence[Part]) -> list[dict[str, float]]:
    """What guidance did at each step, averaged over the samples of all parts."""
    steps: dict[float, list[tuple[int, Mapping[str, float]]]] = {}
    for part in parts:
        for row in part.diagnostics:
            steps.setdefault(row["step"], []).append((len(part.indices), row))
    return [
        {name: sum(n * row[name] for n, row in rows) / sum(n for n, _ in rows) for name in rows[0][1]}
        for _, rows in sorted(steps.items())
    ]


def save_part(path: Path, part: Part, facts: Mapping[str, Any]) -> None:
    """Writes a part whose decoded samples are strings, and facts about it. OSError names the path if it fails."""
    tensors = {"samples": part.samples, **{f"score.{name}": value for name, value in part.scores.items()}}
    save_tensors(path, tensors, {"part": {name: getattr(part, name) for name in PLAIN}, **facts})


def load_part(path: Path) -> tuple[Part, dict[str, Any]]:
    """Reads a part and the facts about it. Raises ValueError, which says why, if the file is damaged."""
    tensors, facts = load_tensors(path)
    scores = {name.removeprefix("score."): value for name, value in tensors.items() if name != "samples"}
    return Part(samples=tensors["samples"], scores=scores, **facts.pop("part")), facts
