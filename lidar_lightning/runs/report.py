"""One HTML page about a run: its numbers, its rewards and its samples. It loads nothing from outside."""

import json
import math
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from lidar_lightning.runs.data import Run, read_run, read_summary, reward_columns
from lidar_lightning.runs.galleries import molecule_section, picture_section, section
from lidar_lightning.runs.page import page
from lidar_lightning.runs.plots import budget_chart, ess_chart, histograms
from lidar_lightning.utils.files import expand, write_atomically

SHOWN = 12
KEY_COLUMNS = (
    "reward", "reward_valid", "valid", "unique", "novel", "accuracy", "diversity", "kl_score", "fcd", "filters",
    "excess_nelbo", "w1", "top_10", "policy_reward", "scoring_calls", "calls", "nfe", "seconds",
)  # fmt: skip
LOWER_IS_BETTER = {"nfe", "calls", "seconds", "ms", "memory", "nelbo", "w1", "loss", "fcd"}
NEUTRAL = {"samples", "seed", "n", "steps", "scale", "temperature", "count", "snn"}


def write_report(run: str | Path) -> Path:
    """Writes `report.html` into the folder of a run and returns its path.

    Args:
        run: a folder with `summary.json`, which holds {"methods": {name: {"reward": ..., "valid": ..., any number}}}
            and optionally "title", "settings" (a dictionary), "reward_name" (the guiding reward; by default the first
            in the samples), "higher_is_better" (of that reward; by default true) and "modality" (by default
            "molecule"). The folder may hold `<method>/samples.csv` (prompt, index, sample, one column per reward) and
            `<method>/diagnostics.csv` (step, t, ess, ess_r, shift) of each method; those of a single method may lie
            directly in it.

    Raises:
        ValueError: if the folder or summary.json is missing, or if a file is damaged or lacks what is to be shown.
        OSError: if the file cannot be written; the message names it.
    """
    folder = expand(run)
    summary = read_summary(folder)
    modality = summary.get("modality", "molecule")
    if not isinstance(modality, str) or modality not in GALLERIES:
        raise ValueError(f"no report for samples of modality {modality!r}: known are {sorted(GALLERIES)}")
    content = read_run(folder, summary, modality)
    sections = [table_section(content), curves_section(content), reward_section(content)]
    sections += [prompts_section(content), GALLERIES[modality](content)]
    sections += [diagnostics_section(content), settings_section(content)]
    path = folder / "report.html"
    body = "\n".join(section for section in sections if section)
    write_atomically(path, page(content.title, folder.resolve().name, gain(content), body).encode())
    return path


def table_section(run: Run) -> str:
    """A table of the methods' numbers, the best of each column in bold; columns of lesser interest are folded away."""
    columns = list(dict.fromkeys(key for method in run.methods for key in method.numbers))
    held_out = [name for name in reward_columns(run.methods) if name != run.reward]
    columns = _different(run, sorted(columns, key=lambda name: name != "reward"), columns)
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
    """A histogram for each reward and method, on common axes, with the mean marked."""
    ordered = sorted(reward_columns(run.methods), key=lambda name: name != run.reward)
    blocks = [f"<figure><figcaption>{escape(name)}</figcaption>{histograms(run, name)}</figure>" for name in ordered]
    whose = "of valid samples" if any(method.molecules for method in run.methods) else "of all samples"
    note = f'<p class="note">Shares {whose}; the line marks their mean.</p>'
    return section("Rewards", f'{note}<div class="charts">{"".join(blocks)}</div>') if blocks else ""


def gain(run: Run) -> str:
    """The run at a glance: the mean reward of each method beside that of its lookaheads and of the plain model."""
    blocks, name = "", escape(run.reward or "reward")
    plain = next((m.numbers.get("reward") for m in run.methods if m.name == "vanilla"), None)
    for method in run.methods:
        reward, bank = (method.numbers.get(key) for key in ("reward", "lookahead_reward"))
        if not _is_number(reward) or "@" in method.name:
            continue
        against = [(bank, "lookaheads"), (plain if method.name != "vanilla" else None, "plain model")]
        said = " · ".join(f"{text} {value:.3g}" for value, text in against if _is_number(value))
        dot = f'<i class="dot" style="background:{method.colour}"></i>'
        blocks += f"<div>{dot}{escape(method.name)}<br><strong>{reward:.3g}</strong><br>"
        blocks += f"<span>{said or 'mean reward'}</span></div>"
    note = f'<p class="note">Mean <code>{name}</code> of all samples.</p>'
    return f'<div class="gain">{blocks}</div>{note}' if blocks else ""


def prompts_section(run: Run) -> str:
    """A table of the mean guiding reward of each prompt, by method, if prompts have several samples."""
    frames = {m.name: m.samples for m in run.methods if len(m.samples) and {"prompt", run.reward} <= set(m.samples)}
    means = pd.DataFrame(
        {name: frame.groupby("prompt", sort=False)[run.reward].mean() for name, frame in frames.items()}
    )
    if len(means) < 2 or max(len(frame) for frame in frames.values()) == len(means):
        return ""
    head = "<th>prompt</th>" + "".join(f"<th>{escape(name)}</th>" for name in means)
    rows = "".join(
        f"<tr><th>{escape(str(prompt))}</th>"
        + "".join(f"<td>{'–' if math.isnan(value) else format(value, '.3f')}</td>" for value in row)
        + "</tr>"
        for prompt, row in zip(means.index, means.to_numpy(), strict=True)
    )
    table = f'<div class="wide"><table><tr>{head}</tr>{rows}</table></div>'
    return section("Prompts", f"<details open><summary>Mean reward of {len(means)} prompts</summary>{table}</details>")


def curves_section(run: Run) -> str:
    """Each reward against what the methods spent, such as network calls per sample."""
    charts = "".join(
        f"<figure><figcaption>{escape(name)}</figcaption>{budget_chart(name, curves, run.over)}</figure>"
        for name, curves in run.curves.items()
    )
    bars = "; bars are 95% confidence intervals over prompts, or of a single prompt over seeds"
    intervals = any(end is not None for lines in run.curves.values() for line in lines.values() for end in line[0][2:])
    note = f'<p class="note">Against {escape(run.over)}, logarithmic{bars if intervals else ""}.</p>'
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


def _different(run: Run, ordered: Sequence[str], columns: Sequence[str]) -> list[str]:
    """The columns without those whose every number stands in one before: the guiding reward by its own name, or nfe."""
    seen: dict[str, str] = {}
    for column in ordered:
        values = [method.numbers.get(column) for method in run.methods]
        twin = column in (run.reward, "nfe", *reward_columns(run.methods))
        seen.setdefault(repr(values) if twin or column in ("reward", "calls") else column, column)
    return [column for column in columns if column in seen.values()]


def _format(values: Sequence[Any]) -> list[str]:
    """One column as text: whole numbers as such if all are, else with as many decimals as its size calls for.

    Decimals that are 0 in the whole column are left out.
    """
    numbers = [abs(value) for value in values if _is_number(value)]
    whole, largest = all(float(value).is_integer() for value in numbers), max(numbers, default=0)
    form = ",.0f" if whole else ".3g" if largest < 0.01 else ".3f" if largest < 100 else ",.1f"
    if form == ".3f":
        form = next(f".{n}f" for n in (1, 2, 3) if n == 3 or all(round(v, n) == round(v, 3) for v in numbers))
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
    lower = bool(words & LOWER_IS_BETTER) or column in run.lower
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
