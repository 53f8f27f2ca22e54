"""Plots of a run as inline SVG, whose colours are those of the page's style."""

import math
from html import escape

import numpy as np
import pandas as pd

from lidar_lightning.runs.data import Method, Run, column_values, method_colours


def histograms(run: Run, reward: str) -> str:
    """Histograms of one reward on common axes: a row for each method, under one for its lookaheads if it has any.

    Where all values are the same, a sentence says so instead.
    """
    found: list[tuple[str, str, np.ndarray]] = []
    for method in run.methods:
        if (before := method.earlier(reward)) is not None:
            found.append(("lookaheads" if len(run.methods) == 1 else f"{method.name}, bank", "var(--soft)", before))
        values = column_values(method.samples, reward)
        found.append((method.name, method.colour, values[method.valid & ~np.isnan(values)]))
    every = np.concatenate([values for *_, values in found])
    if not len(every):
        return '<p class="note">No valid sample has a finite score.</p>'
    low, high = every.min(), every.max()
    if low == high:
        return f'<p class="note">All {len(every):,} are {low:g}.</p>'
    if (every == every.round()).all() and high - low <= 40:
        edges = np.arange(low - 0.5, high + 1)
    else:
        edges = np.linspace(low, high, 41)
    shares = [np.histogram(values, edges)[0] / max(len(values), 1) for *_, values in found]
    top, width, row = max(share.max() for share in shares), 440, 84
    scale = width / (edges[-1] - edges[0])
    body = ""
    for place, ((name, colour, values), share) in enumerate(zip(found, shares, strict=True)):
        base = (place + 1) * row
        for start, end, part in zip(edges[:-1], edges[1:], share, strict=True):
            if part:
                x, w, h = (start - edges[0]) * scale, (end - start) * scale, max(part / top * (row - 36), 0.7)
                body += f'<rect x="{x + 0.5:.1f}" y="{base - h:.1f}" width="{max(w - 1, 1):.1f}" height="{h:.1f}" '
                body += f'style="fill:{colour}"/>'
        body += f'<path class="axis" d="M0 {base}H{width}"/>'
        body += f'<text x="0" y="{base - row + 26}">{escape(_short(name, 40))}</text>'
        if not len(values):
            body += f'<text class="tick" x="0" y="{base - 6}">no valid samples</text>'
        else:
            x = (values.mean() - edges[0]) * scale
            body += f'<path class="mean" d="M{x:.1f} {base}V{base - row + 32}"/>'
            body += f'<text x="{width}" y="{base - row + 26}" text-anchor="end">{values.mean():.3g}</text>'
    whole = bool((every == every.round()).all())
    for tick in (tick for tick in _ticks(edges[0], edges[-1]) if not whole or tick == round(tick)):
        x = min(max((tick - edges[0]) * scale, 8), width - 8)
        body += f'<text class="tick" x="{x:.1f}" y="{len(found) * row + 18}" text-anchor="middle">{tick:g}</text>'
    return _svg(width, len(found) * row + 26, f"Histograms of {reward} per method", body)


def ess_chart(method: Method, diagnostics: pd.DataFrame) -> str:
    """A chart over the steps of ess (a solid line) and, where it was recorded, ess_r (a dashed line)."""
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


def budget_chart(reward: str, curves: dict[str, list[list[float]]], over: str = Run.over) -> str:
    """A chart of a reward over network calls (logarithmic), one line for each method, with intervals and a legend."""
    points = [point for line in curves.values() for point in line]
    calls_spent = [math.log(point[0]) for point in points]
    first, last = min(calls_spent), max(calls_spent)
    values = [value for point in points for value in point[1:] if value is not None]
    low, high = min(values), max(values)
    last, high = max(last, first + 1e-9), high if high > low else low + 1
    width, height, left, top = 440, 220, 56, 18 * -(-len(curves) // 3) + 12

    def place(calls: float, value: float) -> tuple[float, float]:
        x = left + 8 + (math.log(calls) - first) / (last - first) * (width - left - 32)
        return x, top + height - 34 - (value - low) / (high - low) * (height - 48)

    body = ""
    for tick in _ticks(low, high):
        y = place(math.exp(first), tick)[1]
        body += f'<path class="rule" d="M{left} {y:.1f}H{width - 16}"/>'
        body += f'<text class="tick" x="{left - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:g}</text>'
    taken = -math.inf
    for calls in sorted({round(point[0]) for point in points}):
        x = place(max(calls, math.exp(first)), low)[0]
        if x - taken < 26:
            continue
        taken = x
        body += f'<text class="tick" x="{x:.1f}" y="{top + height - 12}" text-anchor="middle">{calls}</text>'
    for number, ((method, line), colour) in enumerate(
        zip(curves.items(), method_colours(curves).values(), strict=True)
    ):
        ordered = sorted(line)
        path = "L".join("{:.1f} {:.1f}".format(*place(point[0], point[1])) for point in ordered)
        body += f'<path class="line" style="stroke:{colour}" d="M{path}"/>'
        for spent, middle, lower, upper in ordered:
            x, y = place(spent, middle)
            if lower is not None:
                y1, y2 = place(spent, lower)[1], place(spent, upper)[1]
                body += f'<path class="line" style="stroke:{colour}" d="M{x:.1f} {y1:.1f}V{y2:.1f}"/>'
            body += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:{colour}"/>'
        across, down = left + number % 3 * 128, 12 + number // 3 * 18
        body += f'<circle cx="{across}" cy="{down - 4}" r="4" style="fill:{colour}"/>'
        body += f'<text x="{across + 9}" y="{down}">{escape(_short(method, 17))}</text>'
    return _svg(width, top + height, f"{reward} over {over}", body)


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


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
