"""The table of `benchmarks.full_size`: what was measured on each device beside what was published."""

from typing import Any

Rows = dict[str, dict[str, Any]]
"""Device to "model/row" to what was measured."""
LABELS = {
    "vanilla": "vanilla", "lidar": "LiDAR", "lidar-dmd": "LiDAR (DMD-1, n=100)", "restart": "LiDAR, restart at 0.4",
    "ug": "UG", "date": "DATE", "dpo": "DPO step, 4 pairs",
}  # fmt: skip
NAMES = {"sd15": "SD 1.5, 100 steps", "sdxl": "SDXL, 100 steps", "flux": "FLUX.1-dev, 50 steps",
         "z-image": "Z-Image, 50 steps, `AnyPipeline`"}  # fmt: skip
BANKS = {"sd15": "DPM-5, n=50", "sdxl": "DPM-8, n=50", "flux": "8 steps, n=50", "z-image": "8 steps, n=50"}
PLAIN = ["vanilla", "lidar", "restart", "ug", "date", "dpo"]
ROWS = {"sd15": PLAIN, "sdxl": ["vanilla", "lidar", "lidar-dmd", *PLAIN[2:]], "flux": PLAIN, "z-image": PLAIN}
WHOLE = {("z-image", row): "AnyPipeline has no gradient through single steps" for row in ("ug", "date")}
"""Rows that cannot be, and why."""
PUBLISHED: dict[tuple[str, str], tuple[float, float | str]] = {
    ("sd15", "vanilla"): (7.07, 8.90), ("sd15", "ug"): (58.36, 28.16), ("sd15", "date"): (32.89, 24.71),
    ("sd15", "lidar"): (13.41, 8.90), ("sdxl", "vanilla"): (42.0, 33.84), ("sdxl", "ug"): (334.4, "OOM"),
    ("sdxl", "date"): (272.3, "OOM"), ("sdxl", "lidar"): (97.99, 33.84), ("sdxl", "lidar-dmd"): (78.67, 33.84),
}  # fmt: skip
"""Seconds and GiB of arXiv 2602.03211, on an A100: DDPM-100, 4 pictures of a prompt, ImageReward."""
HEAD = """# Seconds and memory at full size

Genuine architectures with random weights, bf16; 4 pictures of one prompt are drawn, decoded and scored by the network
of ImageReward (float32), the bank included. `python -m benchmarks.full_size --model MODEL --row ROW` measures a row and
says what is left. "x" is over vanilla. Published: arXiv 2602.03211, on an A100, whose precision and batch of lookaheads
are not known here; "OOM" is as printed there.
"""


def table(rows: Rows) -> str:
    """The page."""
    text = [HEAD]
    if smoke := rows.get("smoke"):
        text += [
            "Without a GPU, `--smoke` runs SD 1.5 at 256x256, one picture, one step: "
            + "; ".join(f"{LABELS[key.partition('/')[2]]} {_said(row)}" for key, row in sorted(smoke.items()))
            + ".\n"
        ]
    for device in [device for device in sorted(rows) if device != "smoke"] or ["no GPU yet"]:
        text += [f"## {device}\n", "| model | row | s | x | GiB | published s | x | GiB |", "|---" * 8 + "|"]
        for model, names in ROWS.items():
            text += [_line(model, row, rows.get(device, {})) for row in names]
        text += [""]
    return "\n".join(text)


def undone(rows: Rows) -> list[str]:
    """The commands of the rows that no GPU has."""
    done = {key for device, found in rows.items() if device not in ("smoke", "CPU") for key in found}
    pairs = [(model, row) for model, names in ROWS.items() for row in names if (model, row) not in WHOLE]
    commands = (f"python -m benchmarks.full_size --model {m} --row {r}" for m, r in pairs if f"{m}/{r}" not in done)
    return list(commands)


def _said(row: dict[str, Any]) -> str:
    return row.get("error") or (
        f"{row['seconds']:.1f} s and {row['gib']:.1f} GiB on {row['cores']} cores at a load of {row['load']}"
    )


def _line(model: str, row: str, found: dict[str, Any]) -> str:
    here, base = found.get(f"{model}/{row}"), found.get(f"{model}/vanilla", {}).get("seconds")
    if (model, row) in WHOLE:
        cells = [f"none: {WHOLE[model, row]}", "", ""]
    elif not here:
        cells = ["needs a GPU", "", "needs a GPU"]
    elif "error" in here:
        cells = [here["error"], "", ""]
    else:
        ratio = f"{here['seconds'] / base:.2f}" if base and row != "dpo" else ""
        cells = [f"{here['seconds']:.2f}", ratio, f"{here['gib']:.2f}"]
    seconds, memory = PUBLISHED.get((model, row), ("", ""))
    ratio = f"{float(seconds) / PUBLISHED[model, 'vanilla'][0]:.2f}" if seconds else ""
    label = f"{LABELS[row]} ({BANKS[model]})" if row in ("lidar", "restart") else LABELS[row]
    name = NAMES[model] if row == "vanilla" else ""
    return f"| {' | '.join([name, label, *cells, str(seconds), ratio, str(memory)])} |"
