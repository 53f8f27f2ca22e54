"""The files of a run: samples as they are finished, then tables, a summary and a report.

RUN/run.json                 the settings; another run may not continue this one
RUN/config.yaml              the configuration that was used, if the run was started from the command line
RUN/banks/*.safetensors      lookahead banks
RUN/parts/PROMPT/*.safetensors   finished samples FIRST-LAST of a prompt; a killed run goes on after them
RUN/images/*.png             for image models: every sample, with prompt, index, scores and settings as metadata
RUN/grids/*.png              for image models: the samples of each prompt
RUN/lookaheads/*.png         for image models: the best lookahead samples of each prompt
RUN/lookaheads.csv           the best lookahead samples of each prompt with their rewards
RUN/lookahead_scores.csv     every lookahead sample of each prompt with every score: the rewards before guidance
RUN/samples.csv, .parquet    every sample with every score; in the CSV an apostrophe stands before what a spreadsheet
                             would take for a formula, which `tables.read_csv` removes
RUN/diagnostics.csv          what the guidance did at each step
RUN/summary.json             metrics, network calls, seconds
RUN/report.html              everything above on one page
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from lidar_lightning.runs.parts import Part, join, load_part, mean_steps, save_part
from lidar_lightning.utils.files import check_folder, expand, sweep, write_atomically
from lidar_lightning.utils.pictures import grid, read_picture, save_png, slug
from lidar_lightning.utils.tables import write_csv

logger = logging.getLogger(__name__)
WRITTEN = ("banks", "parts", "images", "grids", "lookaheads")


def prompt_name(prompt: str) -> str:
    """The beginning of a prompt's file names: legible, and different for each prompt."""
    return f"{slug(prompt)}-{hashlib.sha256(prompt.encode()).hexdigest()[:12]}"


class RunFolder:
    """The folder of one run.

    Args:
        folder: its path; the folder is made when something is first written into it.
        settings: everything that determines the samples; a folder that was begun with other settings is refused.
    """

    def __init__(self, folder: str | Path, settings: Mapping[str, Any]):
        self.folder = expand(folder)
        self.settings = json.loads(json.dumps(settings, default=str))
        text = json.dumps(self.settings, sort_keys=True)
        self.identity = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._last: tuple[Path, Part] | None = None

    def open(self) -> None:
        """Begins or continues the run. Raises ValueError if the folder is a file or holds a run of other settings."""
        check_folder(self.folder)
        for place in (self.folder, *(self.folder / name for name in WRITTEN), *(self.folder / "parts").glob("*")):
            sweep(place)
        path = self.folder / "run.json"
        if not path.exists():
            write_atomically(path, json.dumps(self.settings, indent=1).encode())
            return
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(found, dict):
                raise ValueError(f"it holds {type(found).__name__}, not settings")
        except ValueError as error:
            raise ValueError(
                f"{path} is damaged ({error}): delete this file; finished samples of the same settings are taken again"
            ) from error
        differing = {k for k in {*found, *self.settings} if found.get(k) != self.settings.get(k)}
        if differing:
            changes = "; ".join(f"{k}: {found.get(k)} -> {self.settings.get(k)}" for k in sorted(differing))
            raise ValueError(
                f"{self.folder} holds a run of other settings ({changes}): use another folder or delete it"
            )

    def home(self, prompt: str) -> Path:
        """The folder of the finished samples of a prompt."""
        return self.folder / "parts" / prompt_name(prompt)

    def put(self, part: Part) -> Part:
        """Stores finished samples and returns them as they are stored, with the names of files in place of pictures."""
        facts: dict[str, Any] = {"settings": self.identity}
        if isinstance(part.decoded, Tensor):
            part = replace(part, decoded=self._save_pictures(part, part.decoded))
        for prompt in dict.fromkeys(part.prompts):
            own = part.take([place for place, (its, _) in enumerate(part.rows()) if its == prompt])
            pictures = own.decoded if self.settings["modality"] == "image" else []
            facts["pictures"] = {name: _digest(self.folder / name) for name in pictures}
            name = f"{min(own.indices):07d}-{max(own.indices):07d}.safetensors"
            save_part(self.home(prompt) / name, own, facts)
        return part

    def _save_pictures(self, part: Part, pixels: Tensor) -> list[str]:
        """Writes the pictures of a part (n, 3, H, W) and returns their names in the folder."""
        names = []
        for row, (prompt, index) in enumerate(part.rows()):
            name = f"images/{prompt_name(prompt)}-{index:05d}.png"
            scores = {key: value[row].item() for key, value in part.scores.items()}
            texts = {"prompt": prompt, "index": str(index), "scores": json.dumps(scores)}
            save_png(self.folder / name, pixels[row], {**texts, "settings": json.dumps(self.settings)})
            names.append(name)
        return names

    def get(self, prompt: str, indices: Sequence[int]) -> Part | None:
        """The finished ones among these samples of a prompt, in the order of their indices; None if there are none.

        A file that is damaged, is of other settings, or whose pictures are missing or damaged is removed with a
        warning, so that its samples are drawn again.
        """
        left, found = set(indices), []
        for part in self._stored(prompt, min(indices), max(indices)):
            places = [place for place, index in enumerate(part.indices) if index in left]
            left -= set(part.indices)
            found += [part.take(places)] if places else []
        if not found:
            return None
        part = join(found)
        return part.take(sorted(range(len(part.indices)), key=lambda place: part.indices[place]))

    def _stored(self, prompt: str, low: int, high: int) -> Iterator[Part]:
        """The parts of a prompt that may hold samples low to high."""
        for path in sorted(self.home(prompt).glob("*.safetensors")):
            first, _, last = path.stem.partition("-")
            if not (first.isdigit() and last.isdigit()) or int(first) > high or int(last) < low:
                continue
            if self._last is None or self._last[0] != path:
                try:
                    self._last = path, self._load(path, prompt)
                except ValueError as error:
                    logger.warning("%s: its samples are drawn again", error)
                    path.unlink(missing_ok=True)
                    continue
            yield self._last[1]

    def _load(self, path: Path, prompt: str) -> Part:
        part, facts = load_part(path)
        if facts["settings"] != self.identity or set(part.prompts) != {prompt}:
            raise ValueError(f"{path} is of other settings")
        for name, digest in facts["pictures"].items():
            if not (self.folder / name).is_file() or _digest(self.folder / name) != digest:
                raise ValueError(f"{path}: the picture {name} is missing or damaged")
        return part

    def parts(self, wanted: Mapping[str, Sequence[int]]) -> list[Part]:
        """All samples of the run, one part for each prompt.

        Args:
            wanted: from each prompt to the indices of its samples.

        Raises:
            RuntimeError: if some are missing, which happens when another process died.
        """
        found = [self.get(prompt, indices) for prompt, indices in wanted.items()]
        parts = [part for part in found if part is not None]
        total, there = sum(map(len, wanted.values())), sum(len(part.indices) for part in parts)
        if there < total:
            raise RuntimeError(
                f"{total - there} of {total} samples are missing from {self.folder / 'parts'}, as when a process was "
                "killed: run the same command again, and only those are drawn"
            )
        return parts

    def write(self, parts: Sequence[Part]) -> None:
        """Writes samples.csv, samples.parquet, diagnostics.csv if guided, and a grid of each prompt's pictures.

        Args:
            parts: all samples, one part for each prompt.
        """
        table = pd.concat([part.table() for part in parts], ignore_index=True)
        write_csv(self.folder / "samples.csv", table)
        write_atomically(self.folder / "samples.parquet", table.to_parquet(index=False))
        steps = mean_steps(parts)
        if steps:
            write_csv(self.folder / "diagnostics.csv", pd.DataFrame(steps))
        if self.settings["modality"] == "image":
            for part in parts:
                pictures = torch.stack([read_picture(self.folder / name) for name in part.decoded])
                name = f"{prompt_name(part.prompts[0])}.png"
                save_png(self.folder / "grids" / name, grid(pictures), {"prompt": part.prompts[0]})

    def put_lookaheads(self, prompt: str, pixels: Tensor) -> list[str]:
        """Stores the best lookahead pictures of a prompt, best first, and returns their file names."""
        names = [f"lookaheads/{prompt_name(prompt)}-{rank}.png" for rank in range(len(pixels))]
        for rank, (name, picture) in enumerate(zip(names, pixels, strict=True)):
            save_png(self.folder / name, picture, {"prompt": prompt, "rank": str(rank)})
        return names

    def write_summary(self, summary: Mapping[str, Any]) -> None:
        write_atomically(self.folder / "summary.json", json.dumps(summary, indent=1).encode())


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
