"""Preference pairs of pictures: a local folder with a table, or a hub data set written into one; latents are cached."""

import csv
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor
from torch.utils.data import Dataset, default_collate
from tqdm.auto import tqdm

from lidar_lightning.backbones import Backbone
from lidar_lightning.backbones.rows import stacked
from lidar_lightning.utils.files import sweep, write_atomically
from lidar_lightning.utils.hub import at_revision
from lidar_lightning.utils.pictures import fit, read_picture
from lidar_lightning.utils.tables import escape

TABLE = "pairs.csv"


def download_pairs(repository: str, folder: Path, limit: int, split: str = "train") -> Path:
    """Writes pairs of a hub data set with Pick-a-Pic's columns into a folder: pictures and pairs.csv.

    The columns are caption, jpg_0, jpg_1 (bytes) and label_0: 1 prefers jpg_0, 0 prefers jpg_1, and ties are left out.
    The data set is streamed no further than needed, at the revision of OWNER/DATASET@REVISION if one is named. A folder
    that holds `limit` pairs is left as it is; in one that holds fewer, writing continues after the last pair.

    Raises:
        ValueError: if the data set is out of reach, lacks a column, or holds an unreadable picture.
    """
    from datasets import load_dataset

    table, done = folder / TABLE, _count_rows(folder / TABLE)
    if done >= limit:
        return table
    try:
        name, revision = at_revision(repository)
        rows = load_dataset(name, split=split, streaming=True, revision=revision)
        _write_pairs(rows, folder, done, limit)
    except (ConnectionError, FileNotFoundError, ValueError, KeyError) as error:
        raise ValueError(
            f"cannot get preference pairs from {repository!r}: {error}; give a reachable data set with the columns "
            "caption, jpg_0, jpg_1, label_0, or a local folder"
        ) from error
    return table


def _count_rows(table: Path) -> int:
    if not table.is_file():
        return 0
    with open(table, newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.DictReader(file))


def _write_pairs(rows: Iterable[dict[str, Any]], folder: Path, done: int, limit: int) -> None:
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    decided = (row for row in rows if row["label_0"] != 0.5)
    with open(folder / TABLE, "a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        if not done:
            writer.writerow(["prompt", "chosen", "rejected"])
        for place, row in enumerate(tqdm(decided, desc="preference pairs", total=limit)):
            if place < done:
                continue
            if place >= limit:
                break
            names = []
            for side in ("jpg_0", "jpg_1"):
                read_picture(row[side], f"{side} of row {place}")
                names.append(f"pictures/{place:07d}-{side[-1]}.jpg")
                write_atomically(folder / names[-1], row[side])
            chosen, rejected = names if row["label_0"] == 1 else reversed(names)
            writer.writerow([escape(row["caption"]), chosen, rejected])
            file.flush()


class PicturePairs(Dataset):
    """Items {"prompt", "chosen", "rejected", "condition"}: latents (*S) and what the network is told of the prompt.

    Args:
        items: dictionaries {"prompt", "chosen", "rejected"}, the last two of which are paths of pictures.
        cache: the folder that `cache_pairs` returned.
    """

    def __init__(self, items: Sequence[dict[str, Any]], cache: Path):
        self.items, self.cache = items, cache

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, item: int) -> dict[str, Any]:
        row = self.items[item]
        latents = {side: load_file(cached(self.cache, row[side]))["latents"] for side in ("chosen", "rejected")}
        return {"prompt": row["prompt"], **latents, "condition": load_file(cached(self.cache, row["prompt"]))}


def collate(items: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of items; what is told of prompts is stacked where its shapes agree, otherwise in lists."""
    told = [item["condition"] for item in items if "condition" in item]
    batch = default_collate([{key: value for key, value in item.items() if key != "condition"} for item in items])
    return batch | ({"condition": {name: stacked([row[name] for row in told]) for name in told[0]}} if told else {})


def cached(cache: Path, key: str) -> Path:
    """The file in a cache folder that holds what belongs to a key: the path of a picture, or a prompt."""
    return cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"


def cache_pairs(
    items: Sequence[dict[str, Any]], backbone: Backbone, folder: Path, rank: int = 0, world: int = 1
) -> Path:
    """Caches the latents of every picture and the condition of every prompt, each once, and returns the folder.

    Files that are already there are kept.

    Args:
        items: the pairs, as `PicturePairs` takes them.
        backbone: the model that encodes pictures and prompts.
        folder: where the caches lie; each latent space and each set of weights has a subfolder of its own.
        rank, world: number of this process, and of all processes; each encodes every `world`-th file.

    Raises:
        ValueError: if a picture cannot be read; the message names it.
    """
    cache = folder / f"latents-{backbone.fingerprint()}-{backbone.space}"
    sweep(cache)
    pictures = sorted({row[side] for row in items for side in ("chosen", "rejected")})
    prompts = sorted({row["prompt"] for row in items})
    work = [(key, True) for key in pictures] + [(key, False) for key in prompts]
    for key, is_picture in tqdm(work[rank::world], desc="encoding pairs", leave=False):
        path = cached(cache, key)
        if path.exists():
            continue
        if is_picture:
            pixels = fit(read_picture(Path(key)), backbone.height, backbone.width)  # type: ignore[arg-type]
            tensors = {"latents": backbone.x0_of(pixels[None])[0]}
        else:
            condition = backbone.told([key])
            tensors = {name: value[0] for name, value in condition.items() if not name.startswith("negative_")}
        write_atomically(path, save({name: _stored(value) for name, value in tensors.items()}))
    return cache


def _stored(value: Tensor) -> Tensor:
    return value.detach().to("cpu", copy=True).contiguous()


__all__ = ["PicturePairs", "cached", "download_pairs", "cache_pairs"]
