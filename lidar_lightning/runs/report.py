"""One HTML page about a run: its numbers, its rewards and its samples. It loads nothing from outside."""

import json
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

from lidar_lightning.runs.data import Run, read_run, read_summary, reward_columns
from lidar_lightning.runs.galleries import molecule_section, picture_section, section
from lidar_lightning.runs.plots import budget_chart, ess_chart, histograms
from lidar_lightning.utils.files import expand, write_atomically

SHOWN = 12
KEY_COLUMNS = (
    "reward", "reward_valid", "valid", "unique", "novel", "accuracy", "diversity", "excess_nelbo", "w1", "calls", "nfe",
    "seconds",
)  # fmt: skip
LOWER_IS_BETTER = {"nfe", "calls", "seconds", "ms", "memory", "nelbo", "w1", "loss"}
NEUTRAL = {"samples", "seed", "n", "steps", "scale", "temperature", "count"}


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
        OSError: naming the file, if it cannot be written.
    """
    folder = expand(run)
    summary = read_summary(folder)
    modality = summary.get("modality", "molecule")
    if not isinstance(modality, str) or modality not in GALLERIES:
        raise ValueError(f"no report for samples of modality {modality!r}: known are {sorted(GALLERIES)}")
    content = read_run(folder, summary, modality)
    sections = [table_section(content), curves_section(content), reward_section(content), GALLERIES[modality](content)]
    sections += [diagnostics_section(content), settings_section(content)]
    path = folder / "report.html"
    body = "\n".join(section for section in sections if section)
    write_atomically(path, _page(content.title, folder.resolve().name, body).encode())
    return path


def table_section(run: Run) -> str:
    """The methods' numbers, the best of each column in bold; what is no reward or of KEY_COLUMNS is folded away."""
    columns = list(dict.fromkeys(key for method in run.methods for key in method.numbers))
    held_out = [name for name in reward_columns(run.methods) if name != run.reward]
    main = [c for c in ("keep", "reward", *held_out, *KEY_COLUMNS[1:]) if c in columns]
    rest = [c for c in columns if c not in main]
    if len(columns) <= 9:
        main, rest = main + rest, []
    folded = f"<details><summary>All measurements ({len(rest)} more)</summary>{_table(run, rest)}</details>"
    note = f"Guiding reward: <code>{escape(run.reward)}</code>" if run.reward else ""
    if run.reward and not run.higher_is_better:
        note += ", lower is better"
    caption = f'<p class="note">{note}{". " if note else ""}{"Bold: best of its column." * (len(run.methods) > 1)}</p>'
    return section("Methods", caption + _table(run, main) + (folded if rest else ""))


def reward_section(run: Run) -> str:
    """One histogram per reward and method, on common axes, with the mean marked."""
    ordered = sorted(reward_columns(run.methods), key=lambda name: name != run.reward)
    blocks = [f"<h3>{escape(name)}</h3>{histograms(run, name)}" for name in ordered]
    whose = "of valid samples" if any(method.molecules for method in run.methods) else "of all samples"
    note = f'<p class="note">Shares {whose}; the line marks their mean.</p>'
    return section("Rewards", note + "".join(blocks)) if blocks else ""


def curves_section(run: Run) -> str:
    """Each reward against the network calls per sample that the methods spent."""
    charts = "".join(
        f"<figure><figcaption>{escape(name)}</figcaption>{budget_chart(name, curves)}</figure>"
        for name, curves in run.curves.items()
    )
    note = (
        '<p class="note">Against network calls per sample, logarithmic; bars are 95% confidence intervals over '
        "prompts, or of a single prompt over seeds.</p>"
    )
    return section("Equal compute", f'{note}<div class="charts">{charts}</div>') if charts else ""


def diagnostics_section(run: Run) -> str:
    """Effective sample size of the bank's weights over the steps, for methods that wrote diagnostics."""
    charts = "".join(ess_chart(m, m.diagnostics) for m in run.methods if m.diagnostics is not None)
    note = (
        '<p class="note">Effective sample size of the bank at each step, mean over the samples, logarithmic: '
        "solid under the noise kernel, dashed with the reward's tilt.</p>"
    )
    return section("Guidance", f'{note}<div class="charts">{charts}</div>') if charts else ""


def settings_section(run: Run) -> str:
    """The settings as a list of names and values."""
    shown = ((key, value if isinstance(value, str) else json.dumps(value)) for key, value in run.settings.items())
    rows = "".join(f"<dt>{escape(str(key))}</dt><dd>{escape(value)}</dd>" for key, value in shown)
    return section("Settings", f"<dl>{rows}</dl>") if rows else ""


GALLERIES: dict[str, Callable[[Run], str]] = {"molecule": molecule_section, "image": picture_section}


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
  --c5: #c9a200; --c6: #6d4bd0; --c7: #d0454c; --c8: #0891b2; --c9: #7c5a3a; --c10: #6a8f1f; --c11: #e06aa0; }
@media (prefers-color-scheme: dark) { :root { --paper: #131416; --card: #1c1e21; --ink: #e9e9ea; --soft: #9a9ba1;
  --line: #303338; --N: #86a8ff; --O: #ff8b82; --F: #56d6a6; --c0: #9aa0aa; --c1: #6ea0ff; --c2: #f59b4c; --c3: #3fcf9f;
  --c4: #e27ccd; --c5: #e6c545; --c6: #a78bfa; --c7: #f58086; --c8: #3cc4e0; --c9: #c39b74;
  --c10: #a9cf5a; --c11: #f29bc1; } }
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
.row { display: grid; grid-template-columns: 150px 1fr; gap: 10px; align-items: center; margin: 8px 0; }
.row .grid { grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); }
.row b { font-weight: 500; font-size: 14px; }
.picture { display: block; width: 100%; height: auto; border-radius: 6px; image-rendering: auto; }
.invalid { aspect-ratio: 180 / 130; display: grid; place-items: center; color: var(--soft); font-size: 13px; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 4px 24px; font-size: 14px; margin: 0; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
"""
