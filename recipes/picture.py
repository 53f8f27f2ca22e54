"""One picture that shows what guidance changes: samples of the plain model above, samples of LiDAR below."""

import random
import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from rdkit import Chem
from rdkit.Chem import Draw

from lidar_lightning.rewards.molecules import parse
from lidar_lightning.utils.tables import read_csv

TILE, GAP, LABEL, SHOWN = 168, 10, 34, 5
INK = (40, 40, 46)
Row = tuple[str, Sequence[tuple[Image.Image, str]]]
"""A title and its tiles with their captions."""
METHODS = {"vanilla": "plain model", "lidar": "LiDAR"}


def before_after(molecules: Path, pictures: Path, path: Path, seed: int = 0) -> Path:
    """Writes a picture of random samples of both methods, those of pictures for the same captions; returns its path.

    Args:
        molecules, pictures: folders that each hold the runs "vanilla" and "lidar".
        path: the path of the PNG file.
        seed: determines which samples are shown.
    """
    columns = [_molecules(molecules, seed), _pictures(pictures, seed)]
    width = SHOWN * (TILE + GAP) - GAP
    page = Image.new("RGB", (2 * width + 5 * GAP, 2 * (TILE + LABEL) + 2 * GAP), "white")
    for place, rows in enumerate(columns):
        left = GAP + place * (width + 3 * GAP)
        for row, (title, tiles) in enumerate(rows):
            top = GAP + row * (TILE + LABEL)
            ImageDraw.Draw(page).text((left, top), title, INK, ImageFont.load_default(18))
            for number, (tile, caption) in enumerate(tiles):
                corner = left + number * (TILE + GAP), top + LABEL - GAP
                page.paste(tile.resize((TILE, TILE)), corner)
                lines = "\n".join(textwrap.wrap(caption, 28))
                ImageDraw.Draw(page).text((corner[0] + 4, corner[1] + 2), lines, INK, ImageFont.load_default(11))
    page.save(path)
    return path


def _molecules(folder: Path, seed: int) -> list[Row]:
    rows: list[Row] = []
    for method, label in METHODS.items():
        table = read_csv(folder / method / "samples.csv")
        valid = [text for text in table["sample"] if parse(text)]
        chosen = random.Random(seed).sample(valid, min(SHOWN, len(valid)))
        mean = table["ring_count"].mean()
        images = [Draw.MolToImage(Chem.MolFromSmiles(text), (2 * TILE, 2 * TILE)) for text in chosen]
        rows.append((f"{label}: {mean:.2f} rings on average", [(image, "") for image in images]))
    return rows


def _pictures(folder: Path, seed: int) -> list[Row]:
    tables = {method: read_csv(folder / method / "samples.csv") for method in METHODS}
    prompts = sorted(set(tables["vanilla"]["prompt"]))
    chosen = random.Random(seed).sample(prompts, min(SHOWN, len(prompts)))
    rows: list[Row] = []
    for method, label in METHODS.items():
        table = tables[method]
        names = [table[table["prompt"] == prompt]["sample"].iloc[0] for prompt in chosen]
        share = table["shapes_verdict"].mean()
        images = [Image.open(folder / method / name).convert("RGB") for name in names]
        tiles = list(zip(images, chosen, strict=True))
        rows.append((f"{label}: {share:.0%} of pictures show what was asked for", tiles))
    return rows
