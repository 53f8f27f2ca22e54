"""One HTML page about a run: its numbers, its rewards and its molecules. It loads nothing from outside."""

import json
import math
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rdkit import Chem
from rdkit.Chem.Draw import rdMolDraw2D

from lidar_lightning.rewards.molecules import parse

SHOWN = 12
KEY_COLUMNS = ("reward", "reward_valid", "valid", "unique", "novel", "nfe", "seconds")
LOWER_IS_BETTER = {"nfe", "seconds", "ms", "memory", "nelbo", "loss"}
NEUTRAL = {"samples", "seed", "n", "steps", "scale", "temperature", "count"}
PALETTE = {6: (0.0, 0.0, 0.0), 7: (0.0, 0.0, 1.0), 8: (1.0, 0.0, 0.0), 9: (0.0, 1.0, 0.0)}
ATOM_COLOURS = {"#000000": "currentColor", "#0000FF": "var(--N)", "#FF0000": "var(--O)", "#00FF00": "var(--F)"}


@dataclass(frozen=True)
class Method:
    """One method of a run.

    Attributes:
        numbers: its row of the table.
        samples: columns prompt, index, sample and one per reward; no rows where the run has no samples.csv.
        molecules: the parsed samples, None where invalid.
        diagnostics: columns step and ess at least, or None.
        colour: CSS colour in every plot.
    """

    name: str
    numbers: dict[str, Any]
    samples: pd.DataFrame
    molecules: list[Chem.Mol | None]
    diagnostics: pd.DataFrame | None
    colour: str


@dataclass(frozen=True)
class Run:
    """What a report is made of. `reward` names the guiding reward's column in the samples, None without samples."""

    title: str
    methods: list[Method]
    settings: dict[str, Any]
    reward: str | None
    higher_is_better: bool


def write_report(run: str | Path) -> Path:
    """Writes `report.html` into the folder of a run and returns its path.

    Args:
        run: a folder with `summary.json` = {"methods": {name: {"reward": ..., "valid": ..., any number}}} and,
            optional, "title", "settings" (a dict), "reward_name" (the guiding reward, by default the first in the
            samples), "higher_is_better" (of that reward, default true) and "modality" (default "molecule"). Per method
            it may hold `<method>/samples.csv` (prompt, index, sample, one column per reward) and
            `<method>/diagnostics.csv` (step, t, ess, ess_r, shift); a single method's may lie directly in the run.

    Raises:
        ValueError: if the folder or summary.json is missing, or a file is damaged or lacks what is shown.
    """
    folder = Path(run)
    summary = _read_summary(folder)
    modality = summary.get("modality", "molecule")
    if modality not in GALLERIES:
        raise ValueError(f"no report for samples of modality {modality!r}: known are {sorted(GALLERIES)}")
    content = read_run(folder, summary)
    sections = [table_section(content), reward_section(content), GALLERIES[modality](content)]
    sections += [diagnostics_section(content), settings_section(content)]
    path = folder / "report.html"
    body = "\n".join(section for section in sections if section)
    path.write_text(_page(content.title, folder.resolve().name, body), encoding="utf-8")
    return path


def read_run(folder: Path, summary: dict[str, Any]) -> Run:
    """The run of a folder with this summary. Raises ValueError as `write_report`."""
    rows = summary["methods"]
    methods = []
    for place, (name, numbers) in enumerate(rows.items()):
        places = [folder / name, folder] if len(rows) == 1 else [folder / name]
        samples = _read_csv([at / "samples.csv" for at in places], ["sample"])
        samples = pd.DataFrame({"sample": []}) if samples is None else samples
        diagnostics = _read_csv([at / "diagnostics.csv" for at in places], ["step", "ess"])
        molecules = [parse(text) for text in samples["sample"]]
        methods.append(Method(name, numbers, samples, molecules, diagnostics, f"var(--c{place % 8})"))
    columns = _rewards(methods)
    reward = summary.get("reward_name", columns[0] if columns else None)
    if columns and reward not in columns:
        raise ValueError(f"reward_name {reward!r} in summary.json is no column of the samples, which have {columns}")
    title = str(summary.get("title") or f"Run {folder.resolve().name}")
    higher = bool(summary.get("higher_is_better", True))
    return Run(title, methods, summary.get("settings") or {}, reward if columns else None, higher)


def table_section(run: Run) -> str:
    """The methods' numbers, the best of each column in bold, whatever is not in KEY_COLUMNS folded away."""
    columns = list(dict.fromkeys(key for method in run.methods for key in method.numbers))
    main = [c for c in KEY_COLUMNS if c in columns]
    rest = [c for c in columns if c not in main]
    if len(columns) <= 9:
        main, rest = main + rest, []
    folded = f"<details><summary>All measurements ({len(rest)} more)</summary>{_table(run, rest)}</details>"
    note = f"Guiding reward: <code>{escape(run.reward)}</code>" if run.reward else ""
    if run.reward and not run.higher_is_better:
        note += ", lower is better"
    caption = f'<p class="note">{note}{". " if note else ""}{"Bold: best of its column." * (len(run.methods) > 1)}</p>'
    return _section("Methods", caption + _table(run, main) + (folded if rest else ""))


def reward_section(run: Run) -> str:
    """One histogram per reward and method, on common axes, with the mean marked."""
    ordered = sorted(_rewards(run.methods), key=lambda name: name != run.reward)
    blocks = [f"<h3>{escape(name)}</h3>{_histograms(run, name)}" for name in ordered]
    note = '<p class="note">Valid samples only; the line marks their mean.</p>'
    return _section("Rewards", note + "".join(blocks)) if blocks else ""


def molecule_section(run: Run) -> str:
    """Per method the unique valid molecules with the best guiding reward, and as many samples drawn at random."""
    blocks = []
    for method in run.methods:
        strings, molecules = method.samples["sample"].tolist(), method.molecules
        if not strings:
            continue
        scores = _numbers(method.samples, run.reward).tolist()
        valid = [i for i, mol in enumerate(molecules) if mol is not None]
        unique = {Chem.MolToSmiles(molecules[i]): i for i in reversed(valid)}.values()
        sign = -1 if run.higher_is_better else 1
        best = sorted(unique, key=lambda i: (math.isnan(scores[i]), sign * scores[i], i))[:SHOWN]
        drawn = sorted(random.Random(0).sample(range(len(strings)), min(SHOWN, len(strings))))
        head = f'<h3><i class="dot" style="background:{method.colour}"></i>{escape(method.name)}</h3>'
        counts = f"{len(valid)} of {len(strings)} samples are valid, {len(unique)} of them unique"
        grids = [("Highest reward" if sign < 0 else "Lowest reward", best), ("At random", drawn)]
        body = "".join(
            f'<h4>{label}</h4><div class="grid">'
            + "".join(_tile(strings[i], molecules[i], scores[i]) for i in chosen)
            + "</div>"
            for label, chosen in grids
            if chosen
        )
        blocks.append(f'{head}<p class="note">{counts}.</p>{body}')
    return _section("Molecules", "".join(blocks)) if blocks else ""


def diagnostics_section(run: Run) -> str:
    """Effective sample size of the bank's weights over the steps, for methods that wrote diagnostics."""
    charts = "".join(_ess_chart(m, m.diagnostics) for m in run.methods if m.diagnostics is not None)
    note = (
        '<p class="note">Effective sample size of the bank at each step, mean over the samples, logarithmic: '
        "solid under the noise kernel, dashed with the reward's tilt.</p>"
    )
    return _section("Guidance", f'{note}<div class="charts">{charts}</div>') if charts else ""


def settings_section(run: Run) -> str:
    """The settings as a list of names and values."""
    shown = ((key, value if isinstance(value, str) else json.dumps(value)) for key, value in run.settings.items())
    rows = "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(value)}</dd>" for key, value in shown)
    return _section("Settings", f"<dl>{rows}</dl>") if rows else ""


GALLERIES: dict[str, Callable[[Run], str]] = {"molecule": molecule_section}


def _read_summary(folder: Path) -> dict[str, Any]:
    path = folder / "summary.json"
    if not folder.is_dir():
        raise ValueError(f"no run to report on: {str(folder)!r} is not a folder")
    if not path.is_file():
        raise ValueError(f"{str(folder)!r} holds no summary.json: give the output folder of a predict or compare run")
    try:
        summary = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is damaged, not valid JSON ({error}): run the experiment again") from error
    methods = summary.get("methods") if isinstance(summary, dict) else None
    if not isinstance(methods, dict) or not methods or not all(isinstance(row, dict) for row in methods.values()):
        raise ValueError(f'{str(path)!r} lists no methods: it needs {{"methods": {{name: {{"reward": ...}}}}}}')
    if not isinstance(summary.get("settings") or {}, dict):
        raise ValueError(f'"settings" in {str(path)!r} must be a dict, got {type(summary["settings"]).__name__}')
    return summary


def _read_csv(places: Sequence[Path], required: Sequence[str]) -> pd.DataFrame | None:
    """The table at the first path that exists, else None; samples and prompts stay text, whatever they spell."""
    path = next((path for path in places if path.is_file()), None)
    if path is None:
        return None
    try:
        frame = pd.read_csv(path, dtype={"sample": str, "prompt": str}, keep_default_na=False)
    except (ValueError, pd.errors.ParserError) as error:
        raise ValueError(f"{str(path)!r} is damaged, not a readable CSV file ({error})") from error
    missing = [column for column in required if column not in frame]
    if missing:
        raise ValueError(f"{str(path)!r} lacks the columns {missing}, it has {list(frame.columns)}")
    return frame


def _rewards(methods: Sequence[Method]) -> list[str]:
    """The reward columns of all samples, each once, in the order of the files."""
    columns = dict.fromkeys(str(column) for method in methods for column in method.samples.columns)
    return [column for column in columns if column not in ("prompt", "index", "sample")]


def _numbers(frame: pd.DataFrame, column: str | None) -> np.ndarray:
    """A column as float64 (n,), NaN where it holds no finite number."""
    if column is None or column not in frame:
        return np.full(len(frame), math.nan)
    values = pd.to_numeric(frame[column], errors="coerce").to_numpy(float)
    return np.where(np.isfinite(values), values, math.nan)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _format(values: Sequence[Any]) -> list[str]:
    """One column as text: whole numbers as such if all are, else with as many decimals as its size calls for."""
    numbers = [abs(value) for value in values if _is_number(value)]
    whole, largest = all(float(value).is_integer() for value in numbers), max(numbers, default=0)
    form = ",.0f" if whole else ".3g" if largest < 0.01 else ".3f" if largest < 100 else ",.1f"
    missing = [value is None or isinstance(value, float) and not math.isfinite(value) for value in values]
    texts = [value if isinstance(value, str) else json.dumps(value) for value in values]
    return [
        "–" if absent else format(value, form) if _is_number(value) else escape(text)
        for value, absent, text in zip(values, missing, texts, strict=True)
    ]


def _best(run: Run, column: str) -> float | None:
    """The value to print bold: none if the column has no direction, or all of it is equal."""
    values = [m.numbers[column] for m in run.methods if _is_number(m.numbers.get(column))]
    words = set(column.split("_"))
    if len(set(values)) < 2 or column in NEUTRAL:
        return None
    lower = bool(words & LOWER_IS_BETTER)
    if column in ("reward", "reward_valid", run.reward):
        lower = not run.higher_is_better
    return min(values) if lower else max(values)


def _table(run: Run, columns: Sequence[str]) -> str:
    head = "".join(f"<th>{escape(column.replace('_', ' '))}</th>" for column in columns)
    cells: list[list[str]] = []
    for column in columns:
        values, best = [method.numbers.get(column) for method in run.methods], _best(run, column)
        marked = [best is not None and _is_number(value) and value == best for value in values]
        texts = _format(values)
        cells.append([f"<td><b>{t}</b></td>" if m else f"<td>{t}</td>" for t, m in zip(texts, marked, strict=True)])
    body = ""
    for place, method in enumerate(run.methods):
        body += f'<tr><th><i class="dot" style="background:{method.colour}"></i>{escape(method.name)}</th>'
        body += "".join(column[place] for column in cells) + "</tr>"
    return f'<div class="wide"><table><tr><th>method</th>{head}</tr>{body}</table></div>'


def _ticks(low: float, high: float) -> list[float]:
    """About five round numbers within [low, high]."""
    raw = (high - low) / 5
    power = 10 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    return [round(k * step, 10) for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _svg(width: int, height: int, label: str, body: str) -> str:
    label = escape(label)
    style = f"min-width:{0.8 * width:.0f}px"
    head = f'<svg class="plot" style="{style}" viewBox="0 0 {width} {height}" role="img" aria-label="{label}">'
    return f'<div class="wide">{head}{body}</svg></div>'


def _histograms(run: Run, reward: str) -> str:
    """Small multiples, one row per method, of one reward."""
    found = []
    for method in run.methods:
        values = _numbers(method.samples, reward)
        valid = np.array([mol is not None for mol in method.molecules], dtype=bool)
        found.append((method, values[valid & ~np.isnan(values)]))
    every = np.concatenate([values for _, values in found])
    if not len(every):
        return '<p class="note">No valid sample has a finite score.</p>'
    low, high = every.min(), every.max()
    if (every == every.round()).all() and high - low <= 40:
        edges = np.arange(low - 0.5, high + 1)
    else:
        edges = np.linspace(low, high, 41) if high > low else np.array([low - 0.5, low + 0.5])
    shares = [np.histogram(values, edges)[0] / max(len(values), 1) for _, values in found]
    top, left, width, row = max(share.max() for share in shares), 140, 760, 64
    scale = (width - left - 70) / (edges[-1] - edges[0])
    body = ""
    for place, ((method, values), share) in enumerate(zip(found, shares, strict=True)):
        base = (place + 1) * row
        for start, end, part in zip(edges[:-1], edges[1:], share, strict=True):
            if part:
                x, w, h = left + (start - edges[0]) * scale, (end - start) * scale, max(part / top * (row - 16), 0.7)
                body += f'<rect x="{x + 0.5:.1f}" y="{base - h:.1f}" width="{max(w - 1, 1):.1f}" height="{h:.1f}" '
                body += f'style="fill:{method.colour}"/>'
        body += f'<path class="axis" d="M{left} {base}H{width - 70}"/>'
        body += f'<text x="0" y="{base - 6}">{escape(_short(method.name, 20))}</text>'
        if not len(values):
            body += f'<text class="tick" x="{left}" y="{base - 6}">no valid samples</text>'
        else:
            x = left + (values.mean() - edges[0]) * scale
            body += f'<path class="mean" d="M{x:.1f} {base}V{base - row + 12}"/>'
            body += f'<text x="{width - 62}" y="{base - 6}">{values.mean():.3g}</text>'
    for tick in _ticks(edges[0], edges[-1]):
        x = left + (tick - edges[0]) * scale
        body += f'<text class="tick" x="{x:.1f}" y="{len(found) * row + 18}" text-anchor="middle">{tick:g}</text>'
    return _svg(width, len(found) * row + 26, f"Histograms of {reward} per method", body)


def _ess_chart(method: Method, diagnostics: pd.DataFrame) -> str:
    """ess (solid) and, where recorded, ess_r (dashed) over the steps."""
    frame = diagnostics.apply(pd.to_numeric, errors="coerce").groupby("step").mean()
    lines = [frame[name].dropna() for name in ("ess", "ess_r") if name in frame]
    lines = [line[(line > 0) & np.isfinite(line)] for line in lines]
    title = f'<figcaption><i class="dot" style="background:{method.colour}"></i>{escape(method.name)}</figcaption>'
    every = np.concatenate([line.to_numpy() for line in lines])
    if not len(every):
        return f'<figure>{title}<p class="note">No effective sample sizes were recorded.</p></figure>'
    first, last = frame.index.min(), max(frame.index.max(), frame.index.min() + 1)
    top = math.ceil(math.log10(max(every.max(), 10)) * 4 - 1e-9) / 4
    bottom = min(0.0, math.floor(math.log10(every.min())))
    width, height, left = 440, 220, 48

    def place(step: float, value: float) -> str:
        x = left + (step - first) / (last - first) * (width - left - 16)
        return f"{x:.1f} {(height - 30) - (math.log10(value) - bottom) / (top - bottom) * (height - 44):.1f}"

    body = ""
    for power in range(int(bottom), math.floor(top) + 1):
        y = place(first, 10.0**power).split()[1]
        body += f'<path class="rule" d="M{left} {y}H{width - 16}"/>'
        body += f'<text class="tick" x="{left - 8}" y="{float(y) + 4:.1f}" text-anchor="end">{10.0**power:g}</text>'
    for tick in _ticks(first, last):
        x = place(tick, 1.0).split()[0]
        body += f'<text class="tick" x="{x}" y="{height - 12}" text-anchor="middle">{tick:g}</text>'
    for line, style in zip(lines, ("", "stroke-dasharray:5 4;"), strict=False):
        points = "L".join(place(float(step), float(value)) for step, value in line.items())
        body += f'<path class="line" style="{style}stroke:{method.colour}" d="M{points}"/>' if points else ""
    return f"<figure>{title}{_svg(width, height, f'Effective sample size of {method.name}', body)}</figure>"


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _tile(text: str, mol: Chem.Mol | None, value: float) -> str:
    drawing = '<div class="invalid">invalid</div>' if mol is None else _drawing(mol)
    shown, text = "" if math.isnan(value) else f"<b>{value:.4g}</b>", escape(text)
    return f'''<figure class="tile">{drawing}
<figcaption>{shown}<code title="{text}">{text}</code></figcaption></figure>'''


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


def _section(title: str, body: str) -> str:
    return f"<section><h2>{title}</h2>{body}</section>"


def _page(title: str, folder: str, body: str) -> str:
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<title>{escape(title)}</title><style>{STYLE}</style></head>
<body><main><header><p class="over">LiDAR-Lightning · {escape(folder)}</p><h1>{escape(title)}</h1></header>
{body}
</main></body></html>
"""


STYLE = """
:root { color-scheme: light dark; --paper: #fff; --card: #f7f7f5; --ink: #1d1d1f; --soft: #6b6b70; --line: #e3e3e0;
  --N: #2450d8; --O: #cf2222; --F: #0f8a5f; --c0: #8a8f98; --c1: #2563eb; --c2: #e07a1f; --c3: #0f9d76; --c4: #b4389b;
  --c5: #c9a200; --c6: #6d4bd0; --c7: #d0454c; }
@media (prefers-color-scheme: dark) { :root { --paper: #131416; --card: #1c1e21; --ink: #e9e9ea; --soft: #9a9ba1;
  --line: #303338; --N: #86a8ff; --O: #ff8b82; --F: #56d6a6; --c0: #9aa0aa; --c1: #6ea0ff; --c2: #f59b4c; --c3: #3fcf9f;
  --c4: #e27ccd; --c5: #e6c545; --c6: #a78bfa; --c7: #f58086; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, "Segoe UI", sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 56px 24px 96px; }
h1 { font-size: 34px; line-height: 1.2; letter-spacing: -.02em; margin: 0; }
h2 { font-size: 21px; margin: 56px 0 12px; padding-top: 18px; border-top: 1px solid var(--line); }
h3 { font-size: 16px; margin: 28px 0 6px; }
h4 { font-size: 13px; font-weight: 500; color: var(--soft); margin: 14px 0 8px; }
.over, .note { color: var(--soft); font-size: 14px; margin: 0 0 10px; }
code { font: 12px/1.4 ui-monospace, "SF Mono", Menlo, "DejaVu Sans Mono", monospace; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 15px; }
th, td { padding: 9px 12px; text-align: right; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; position: sticky; left: 0; background: var(--paper); }
tr:first-child th { font-size: 13px; font-weight: 500; color: var(--soft); }
tr + tr th { font-weight: 500; } td b { font-weight: 700; }
details { margin-top: 14px; } summary { cursor: pointer; color: var(--soft); font-size: 14px; }
.dot { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 9px; }
.plot { display: block; width: 100%; height: auto; } .plot text { font-size: 12px; fill: var(--ink); }
.plot .tick { fill: var(--soft); font-size: 11px; } .axis, .rule { stroke: var(--line); fill: none; }
.mean { stroke: var(--ink); stroke-width: 1.5; } .line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 10px; }
.charts { display: grid; grid-template-columns: repeat(auto-fill, minmax(340px, 1fr)); gap: 20px; }
figure { margin: 0; } .charts figcaption { font-size: 14px; font-weight: 500; }
.tile { background: var(--card); border-radius: 10px; padding: 8px 10px; min-width: 0; }
.tile figcaption { display: flex; gap: 8px; align-items: baseline; font-size: 13px; }
.tile code { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; color: var(--soft); font-size: 11px; }
.molecule { display: block; width: 100%; height: auto; }
.invalid { aspect-ratio: 180 / 130; display: grid; place-items: center; color: var(--soft); font-size: 13px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 24px; font-size: 14px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
"""
