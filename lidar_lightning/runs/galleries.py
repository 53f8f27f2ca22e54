"""The samples of a run as sections of its report: drawn molecules, or pictures side by side."""

import base64
import io
import math
import random
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageSequence
from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

from lidar_lightning.rewards.combine import pareto_rank
from lidar_lightning.rewards.molecules import parse
from lidar_lightning.runs.data import Method, Run, column_values
from lidar_lightning.runs.folder import prompt_name
from lidar_lightning.utils.pictures import FRAMES
from lidar_lightning.utils.tables import read_csv

SHOWN = 12
SHOWN_PER_PROMPT = 6
SHOWN_FRONT = 24
LARGEST = 1024
"""Pixels to a side that a picture of the page has at most."""
PALETTE = {6: (0.0, 0.0, 0.0), 7: (0.0, 0.0, 1.0), 8: (1.0, 0.0, 0.0), 9: (0.0, 1.0, 0.0)}
ATOM_COLOURS = {"#000000": "currentColor", "#0000FF": "var(--N)", "#FF0000": "var(--O)", "#00FF00": "var(--F)"}


def section(title: str, body: str) -> str:
    """A section of the report with its heading."""
    return f"<section><h2>{title}</h2>{body}</section>"


def molecule_section(run: Run) -> str:
    """For each method, the different valid molecules of the highest guiding reward, and as many samples at random."""
    blocks = []
    for method in run.methods:
        strings, molecules = method.samples["sample"].tolist(), method.molecules
        if not strings:
            continue
        scores = column_values(method.samples, run.reward).tolist()
        valid = [i for i, mol in enumerate(molecules) if mol is not None]
        unique = {Chem.MolToSmiles(molecules[i]): i for i in reversed(valid)}.values()
        sign = -1 if run.higher_is_better else 1
        best = sorted(unique, key=lambda i: (math.isnan(scores[i]), sign * scores[i], i))[:SHOWN]
        drawn = sorted(random.Random(0).sample(range(len(strings)), min(SHOWN, len(strings))))
        head = f'<h3><i class="dot" style="background:{method.colour}"></i>{escape(method.name)}</h3>'
        counts = f"{len(valid)} of {len(strings)} samples are valid, {len(unique)} of them unique"
        first = "Highest reward" if sign < 0 else "Lowest reward"
        grids = [(first, best, f"{len(unique)} different ones"), ("At random", drawn, f"{len(strings)}")]
        body = "".join(
            f'<h4>{label}: {len(chosen)} of {total}</h4><div class="grid">'
            + "".join(_tile(strings[i], molecules[i], scores[i]) for i in chosen)
            + "</div>"
            for label, chosen, total in grids
            if chosen
        )
        body += front(run, method, list(unique))
        bank = [(text, parse(text), float(value)) for text, value in lookaheads(method) if value][:SHOWN]
        if bank:
            tiles = "".join(_tile(*one) for one in bank)
            body += f'<h4>Best lookaheads of the bank, where it began</h4><div class="grid">{tiles}</div>'
        blocks.append(f'{head}<p class="note">{counts}.</p>{body}')
    return section("Molecules", "".join(blocks)) if blocks else ""


def front(run: Run, method: Method, places: Sequence[int]) -> str:
    """Of a reward that weighs several, the molecules at these places of the samples sorted by Pareto front: those to
    which no other is superior in one objective without being inferior in another come first, by reward within a front.
    """
    columns = {name: column_values(method.samples, name)[list(places)] for name in run.objectives}
    if not columns or not len(places) or any(np.isnan(values).any() for values in columns.values()):
        return ""
    signs = np.array([1 if higher else -1 for higher in run.objectives.values()])
    ranks = pareto_rank(torch.from_numpy(np.stack(list(columns.values())) * signs[:, None]))
    rewards, sign = column_values(method.samples, run.reward)[list(places)], -1 if run.higher_is_better else 1
    order = sorted(range(len(places)), key=lambda place: (-ranks[place], sign * rewards[place], place))[:SHOWN_FRONT]
    strings, tiles = method.samples["sample"].tolist(), ""
    for place in order:
        told = [f"front {1 - ranks[place]:.0f}", *(f"{name} {values[place]:.3g}" for name, values in columns.items())]
        row = places[place]
        tiles += _tile(strings[row], method.molecules[row], rewards[place], " · ".join(told))
    first = int((ranks == 0).sum())
    title = f"By Pareto front of {', '.join(columns)}: {len(order)} of {len(places)}, {first} in the first front"
    return f'<h4>{escape(title)}</h4><div class="grid">{tiles}</div>'


def picture_section(run: Run) -> str:
    """For the first prompts, the pictures of every method side by side, and the best lookahead samples."""
    drawn = [method for method in run.methods if len(method.samples)]
    if not drawn:
        return ""
    prompts = list(dict.fromkeys(drawn[0].samples["prompt"]))
    blocks = [_prompt_block(run, prompt, drawn) for prompt in prompts[:SHOWN]]
    note = f'<p class="note">The first {len(blocks)} of {len(prompts)} prompts.</p>' if len(prompts) > SHOWN else ""
    return section("Pictures", note + "".join(blocks))


def lookaheads(method: Method, prompt: str | None = None) -> list[tuple[str, str]]:
    """The best lookaheads of a prompt, or of all: each sample or its file, and its reward; none without a bank."""
    path = method.folder / "lookaheads.csv"
    if not path.is_file():
        return [
            (f"lookaheads/{p.name}", "")
            for p in sorted(method.folder.glob(f"lookaheads/{prompt_name(prompt or '')}-*"))
        ]
    table = read_csv(path, dtype={"sample": str, "prompt": str})
    rows = table if prompt is None else table[table["prompt"] == prompt]
    return [(text, f"{value:.3g}") for text, value in zip(rows["sample"], rows["reward"], strict=True)]


def _prompt_block(run: Run, prompt: str, methods: list[Method]) -> str:
    rows = ""
    for method in methods:
        table = method.samples[method.samples["prompt"] == prompt].head(SHOWN_PER_PROMPT)
        scores = column_values(table, run.reward)
        tiles = "".join(
            _picture(method.folder / name, "" if math.isnan(score) else f"{score:.3g}")
            for name, score in zip(table["sample"], scores, strict=True)
        )
        total = int((method.samples["prompt"] == prompt).sum())
        shown = f'<br><span class="note">{len(table)} of {total}</span>' if total > len(table) else ""
        rows += _row(f'<i class="dot" style="background:{method.colour}"></i>{escape(method.name)}{shown}', tiles)
        best = lookaheads(method, prompt)
        if best:
            rows += _row("its best lookaheads", "".join(_picture(method.folder / path, text) for path, text in best))
    return f"<h3>{escape(prompt)}</h3>{rows}"


def _row(label: str, tiles: str) -> str:
    return f'<div class="row"><b>{label}</b><div class="grid">{tiles}</div></div>'


def _picture(path: Path, caption: str) -> str:
    """A picture, or a video, that lies in the page itself, small until it is clicked."""
    if not path.is_file():
        raise ValueError(f"the picture {path} of the run is missing: run the experiment again")
    buffer = io.BytesIO()
    try:
        with Image.open(path) as image:
            first, *others = [smaller(frame) for frame in ImageSequence.Iterator(image)]
            moving = {"save_all": True, "append_images": others, "duration": 1000 / FRAMES, "loop": 0} if others else {}
            first.save(buffer, "webp", quality=88, **moving)
    except (OSError, ValueError) as error:
        raise ValueError(f"the picture {path} of the run is damaged ({error}): run the experiment again") from error
    data = base64.b64encode(buffer.getvalue()).decode()
    shown = f"<figcaption>{caption}</figcaption>" if caption else ""
    return f'<figure><img class="picture large" src="data:image/webp;base64,{data}" alt="">{shown}</figure>'


def smaller(image: Image.Image) -> Image.Image:
    """A copy in RGB that is no larger than the page shows."""
    copy = image.convert("RGB")
    copy.thumbnail((LARGEST, LARGEST))
    return copy


def _tile(text: str, mol: Chem.Mol | None, value: float, told: str = "") -> str:
    drawing = '<div class="invalid">invalid</div>' if mol is None else _drawing(mol)
    shown, text = "" if math.isnan(value) else f"<b>{value:.4g}</b>", escape(text)
    note = f'<p class="note">{escape(told)}</p>' if told else ""
    return f'''<figure class="tile">{drawing}
<figcaption>{shown}<code title="{text}">{text}</code></figcaption>{note}</figure>'''


def _drawing(mol: Chem.Mol) -> str:
    """The molecule as inline SVG that takes its colours from the page."""
    canvas = rdMolDraw2D.MolDraw2DSVG(180, 130)
    options: Any = canvas.drawOptions()
    options.clearBackground = False
    options.padding = 0.08
    options.fixedBondLength = 28
    options.updateAtomPalette(PALETTE)
    rdMolDraw2D.PrepareAndDrawMolecule(canvas, mol)
    canvas.FinishDrawing()
    paths = re.findall(r"<(?:path|ellipse|rect|text).*?(?:/>|</text>)", canvas.GetDrawingText(), re.DOTALL)
    clutter = r" class='[^']*'|fill-rule:evenodd;|stroke-(?:linecap|linejoin|opacity|miterlimit):[^;']*;?"
    body = re.sub(clutter, "", "".join(paths))
    for plain, themed in ATOM_COLOURS.items():
        body = body.replace(plain, themed)
    return f'<svg class="molecule" viewBox="0 0 180 130" aria-hidden="true">{body}</svg>'
