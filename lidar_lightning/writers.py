"""What a predict run leaves on disk: parts as they are finished, then tables, a summary and a report.

RUN/run.json                 the settings; another run may not continue this one
RUN/banks/*.safetensors      lookahead banks
RUN/parts/*.safetensors      finished batches; a killed run goes on after them
RUN/images/*.png             of image models: every sample, with prompt, index, scores and settings as metadata
RUN/grids/*.png              of image models: the samples of each prompt
RUN/lookaheads/*.png         of image models: the best lookahead samples of each prompt
RUN/samples.csv, .parquet    every sample with every score
RUN/diagnostics.csv          what the guidance did at each step
RUN/summary.json             metrics, network calls, seconds
RUN/report.html
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lidar_lightning.files import write_atomically
from lidar_lightning.pictures import grid, read_picture, save_png, slug


@dataclass
class Part:
    """One finished batch, prompts first: samples of prompts[0], then of prompts[1], ..."""

    prompts: Sequence[str]
    indices: Sequence[int]
    samples: Tensor
    """Clean samples (P * B, *S)."""
    decoded: Sequence[str] | Tensor
    """What the rewards scored: SMILES strings, or pixels (P * B, 3, H, W); of a stored part the names of PNG files."""
    scores: Mapping[str, Tensor]
    """Reward name to (P * B,) float32."""
    seconds: float
    nfe: int
    """Network calls per sample, without the lookahead."""
    diagnostics: Sequence[Mapping[str, float]] = ()
    spent: Mapping[str, float] = field(default_factory=dict)
    """Of a comparison: what its meter counted per sample."""

    def key(self) -> str:
        return part_key(self.prompts, self.indices)

    def rows(self) -> list[tuple[str, int]]:
        """Prompt and index of each sample."""
        return [(prompt, index) for prompt in self.prompts for index in self.indices]

    def table(self) -> pd.DataFrame:
        prompts, indices = zip(*self.rows(), strict=True)
        return pd.DataFrame(
            {
                "prompt": prompts,
                "index": indices,
                "sample": list(self.decoded),
                **{name: value.tolist() for name, value in self.scores.items()},
            }
        )


def picture_name(prompt: str) -> str:
    """Begin of the file names of a prompt's pictures: legible, and different for each prompt."""
    return f"{slug(prompt)}-{hashlib.sha256(prompt.encode()).hexdigest()[:6]}"


def part_key(prompts: Sequence[str], indices: Sequence[int]) -> str:
    """Name of the part that holds those samples."""
    return hashlib.sha256(json.dumps([list(prompts), list(indices)]).encode()).hexdigest()[:16]


class RunFolder:
    """The folder of one predict run.

    Args:
        folder: made when first written to.
        settings: everything that determines the samples; a folder begun with other settings is refused.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]):
        self.folder = Path(folder)
        self.settings = json.loads(json.dumps(settings, default=str))

    def open(self) -> None:
        """Begins or continues the run. Raises ValueError if the folder holds one of other settings."""
        path = self.folder / "run.json"
        if path.exists():
            try:
                found = json.loads(path.read_text())
            except ValueError as error:
                raise ValueError(f"{path} is damaged ({error}): delete {self.folder} to begin again") from error
            differing = {k for k in {*found, *self.settings} if found.get(k) != self.settings.get(k)}
            if differing:
                changes = "; ".join(f"{k}: {found.get(k)} -> {self.settings.get(k)}" for k in sorted(differing))
                raise ValueError(
                    f"{self.folder} holds a run of other settings ({changes}): use another folder or delete it"
                )
        else:
            write_atomically(path, json.dumps(self.settings, indent=1).encode())

    def _part(self, key: str) -> Path:
        return self.folder / "parts" / f"{key}.safetensors"

    def _save_pictures(self, part: Part, pixels: Tensor) -> list[str]:
        """Writes the pictures of a part (P * B, 3, H, W) and returns their names in the folder."""
        names = []
        for row, (prompt, index) in enumerate(part.rows()):
            name = f"images/{picture_name(prompt)}-{index:05d}.png"
            scores = {key: value[row].item() for key, value in part.scores.items()}
            texts = {"prompt": prompt, "index": str(index), "scores": json.dumps(scores)}
            save_png(self.folder / name, pixels[row], {**texts, "settings": json.dumps(self.settings)})
            names.append(name)
        return names

    def put(self, part: Part) -> None:
        decoded = part.decoded
        decoded = self._save_pictures(part, decoded) if isinstance(decoded, Tensor) else list(decoded)
        tensors = {"samples": part.samples, **{f"score.{name}": value for name, value in part.scores.items()}}
        header = {
            name: json.dumps(value)
            for name, value in {
                "prompts": list(part.prompts),
                "indices": list(part.indices),
                "decoded": decoded,
                "seconds": part.seconds,
                "nfe": part.nfe,
                "diagnostics": list(part.diagnostics),
                "spent": dict(part.spent),
            }.items()
        }
        data = save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, header)
        write_atomically(self._part(part.key()), data)

    def get(self, key: str) -> Part | None:
        """A finished part, or None. A damaged one, or one whose pictures are gone, is removed, to be drawn again."""
        path = self._part(key)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                header = {name: json.loads(value) for name, value in file.metadata().items()}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            scores = {name.removeprefix("score."): value for name, value in tensors.items() if name != "samples"}
            part = Part(samples=tensors["samples"], scores=scores, **header)
            pictures = part.decoded if self.settings["modality"] == "image" else []
            if not all((self.folder / name).is_file() for name in pictures):
                raise ValueError("a picture is missing")
            return part
        except (SafetensorError, OSError, KeyError, TypeError, ValueError):
            path.unlink()
            return None

    def parts(self, keys: Sequence[str]) -> list[Part]:
        """All parts of the run, in order.

        Raises:
            RuntimeError: if some are missing, as when another process died.
        """
        found = {key: self.get(key) for key in keys}
        parts = [part for part in found.values() if part is not None]
        if len(parts) < len(keys):
            raise RuntimeError(
                f"{len(keys) - len(parts)} of {len(keys)} batches are missing from {self.folder / 'parts'}, as when a "
                "process was killed: run the same command again, and only those are drawn"
            )
        return parts

    def write_tables(self, parts: Sequence[Part]) -> None:
        """Writes samples.csv, samples.parquet and, of a guided run, diagnostics.csv."""
        table = pd.concat([part.table() for part in parts], ignore_index=True)
        write_atomically(self.folder / "samples.csv", table.to_csv(index=False).encode())
        write_atomically(self.folder / "samples.parquet", table.to_parquet(index=False))
        steps = pd.DataFrame([row for part in parts for row in part.diagnostics])
        if len(steps):
            mean = steps.groupby("step", as_index=False).mean()
            write_atomically(self.folder / "diagnostics.csv", mean.to_csv(index=False).encode())

    def write_pictures(self, parts: Sequence[Part]) -> None:
        """A grid of the samples of each prompt."""
        names: dict[str, list[str]] = {}
        for part in parts:
            for (prompt, _), name in zip(part.rows(), part.decoded, strict=True):
                names.setdefault(prompt, []).append(name)
        for prompt, files in names.items():
            pictures = torch.stack([read_picture(self.folder / name) for name in files])
            save_png(self.folder / "grids" / f"{picture_name(prompt)}.png", grid(pictures), {"prompt": prompt})

    def write_lookaheads(self, prompt: str, pixels: Tensor) -> None:
        """The best lookahead samples of a prompt, best first."""
        for rank, picture in enumerate(pixels):
            name = f"{picture_name(prompt)}-{rank}.png"
            save_png(self.folder / "lookaheads" / name, picture, {"prompt": prompt, "rank": str(rank)})

    def diagnostics(self) -> list[dict[str, float]]:
        """The mean of each step over the batches; empty for an unguided run."""
        path = self.folder / "diagnostics.csv"
        return pd.read_csv(path).to_dict("records") if path.exists() else []

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        write_atomically(self.folder / "summary.json", json.dumps(summary, indent=1).encode())
