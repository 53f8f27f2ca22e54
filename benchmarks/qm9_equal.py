"""Methods at equal network calls on QM9, with what no reward sees: `python -m benchmarks.qm9_equal --table qm9-equal`.

Every method is pooled over the prompt, spends at least 95% of its budget, and has the settings of `methods`, which
were chosen on seed 100. Each drawing is kept in `--out`, so that a killed run goes on where it stopped. With
`--table NAME`, NAME.md beside this file is written after each one from all so far; ± is half of a 95% confidence
interval over seeds, each of which has its own bank or pool.
"""

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pandas as pd
import torch
from jsonargparse import auto_cli
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm.auto import tqdm

from lidar_lightning import UDLM, Lookahead
from lidar_lightning.evaluation.molecules import canonical_strings
from lidar_lightning.evaluation.quality import excess, fingerprint_diversity, nelbo_of
from lidar_lightning.rewards import Reward, RingCount, score
from lidar_lightning.rewards.base import utility
from lidar_lightning.rewards.molecules import parse
from lidar_lightning.runs.intervals import interval
from lidar_lightning.samplers import (
    DAS,
    SMC,
    SVDD,
    BeamSearch,
    BestOfN,
    DraftThenFinish,
    LiDAR,
    LiDARSMC,
    Sampler,
    Task,
)
from lidar_lightning.samplers.meter import Meter
from lidar_lightning.samplers.plan import distance
from lidar_lightning.utils.files import write_atomically
from lidar_lightning.utils.smiles_io import read_smiles

STEPS, BATCH, PART, REFERENCE_SEED = 32, 256, 1024, 1_000_000
COLUMNS = ["reward", "valid", "excess NELBO", "diversity", "unique", "novel", "W1", "calls"]


def methods(temperature: float) -> dict[str, Sampler]:
    """The rows of the table; budgets set their free numbers."""
    drafts, restart = Lookahead(8), {"restart": 0.4, "steps": 8}
    return {
        "best-of-N": BestOfN(),
        "best-of-N, 8 steps": BestOfN(steps=8),
        "best-of-N, 6 steps": BestOfN(steps=6),
        "draft-then-finish": DraftThenFinish(draft_steps=4, at=0.2, steps=8),
        "beam search": BeamSearch(children=2, ahead_steps=2, steps=9),
        "SMC, 8 steps": SMC(potential="diff", every=4, keep="best", steps=8),
        "SVDD, 8 steps": SVDD(keep="best", steps=8),
        "DAS, 8 steps": DAS(derivative_free=True, keep="best", steps=8),
        "LiDAR+SMC, 8 steps": LiDARSMC(Lookahead(8, 200), stop=0.3, keep="best", steps=8),
        "LiDAR as published": LiDAR(drafts, stop=0.3),
        "LiDAR, 2 rounds, lambda / 8": LiDAR(drafts, rounds=2, temperature=temperature / 8, **restart),
        "LiDAR, 4 rounds, lambda / 8": LiDAR(drafts, rounds=4, temperature=temperature / 8, **restart),
        "LiDAR, 4 rounds, lambda / 4": LiDAR(drafts, rounds=4, temperature=temperature / 4, **restart),
        "LiDAR, 4 rounds, drawn": LiDAR(drafts, keep="draw", rounds=4, temperature=temperature / 2, **restart),
    }


def bfloat16(backbone: UDLM) -> torch.autocast:
    """Network calls in bfloat16, which on a CPU is three times as fast."""
    return torch.autocast(backbone.device.type, torch.bfloat16)


def kept(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors from a file, made and written there first if there is none."""
    if not path.exists():
        write_atomically(path, save(make()))
    return load_file(path)


def drawn(backbone: UDLM, sampler: Sampler, task: Task, count: int) -> dict[str, Tensor]:
    """Samples (count, L) uint8 and what each cost."""
    with bfloat16(backbone):
        samples = sampler(task, count)
    return {"samples": samples.to(torch.uint8), "calls": torch.tensor(task.meter.network / count)}


def plain(folder: Path, backbone: UDLM, reward: Reward, count: int) -> dict[str, Tensor]:
    """Plain samples of the task's solver, with their rewards and NELBO, which stand for the model's own law."""

    def part(seed: int) -> dict[str, Tensor]:
        task = Task(backbone, backbone.random_solver(STEPS), reward, seed=seed, batch_size=BATCH)
        found = drawn(backbone, BestOfN(1), task, PART)
        with bfloat16(backbone):
            return found | {"nelbo": nelbo_of(backbone, found["samples"].long(), seed=seed)}

    parts = []
    for seed in tqdm(range(REFERENCE_SEED, REFERENCE_SEED + count // PART), desc="plain samples", unit="part"):
        found = kept(folder / "plain" / f"{seed}.safetensors", lambda seed=seed: part(seed))
        strings = backbone.decode(found["samples"].long())
        valid = torch.tensor([parse(text) is not None for text in strings])
        parts.append({"values": values_of(reward, strings), "nelbo": found["nelbo"], "valid": valid})
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def values_of(reward: Reward, strings: list[str]) -> Tensor:
    """The utility of molecules (n,) float64."""
    return utility(reward, score(reward, strings, ["molecule"] * len(strings))).double()


def measured(
    samples: Tensor, backbone: UDLM, reward: Reward, temperature: float, reference: dict[str, Tensor]
) -> dict[str, float]:
    """The columns of one drawing."""
    strings = backbone.decode(samples)
    values = values_of(reward, strings)
    valid = torch.tensor([parse(text) is not None for text in strings])
    with bfloat16(backbone):
        bounds = nelbo_of(backbone, samples[valid])
    known, target = reference["valid"], temperature * reference["values"]
    beyond = excess(bounds, values[valid], reference["nelbo"][known], reference["values"][known])
    different = canonical_strings(frozenset(strings))
    return {
        "reward": values.mean().item(),
        "valid": valid.double().mean().item(),
        "excess NELBO": beyond.mean().item(),
        "diversity": fingerprint_diversity(strings),
        "unique": len(different) / int(valid.sum()),
        "novel": len(different - canonical_strings(frozenset(read_smiles()))) / int(valid.sum()),
        "W1": distance(temperature * values, target, target.softmax(0)),
    }


def write(rows: pd.DataFrame, title: str, reference: dict[str, Tensor], temperature: float, path: Path) -> None:
    """The table of all rows so far."""
    target = (temperature * reference["values"]).softmax(0)
    mean, size = (target * reference["values"]).sum().item(), 1 / target.square().sum().item()
    text = [
        f"# Equal network calls: {title}\n",
        f"The target p(x0) exp(lambda r(x0)) has a mean reward of {mean:.2f}, by {len(target)} plain samples of which "
        f"{size:.0f} are effective; the model's own law has {reference['values'].mean():.2f}, and "
        f"{reference['valid'].double().mean():.3f} valid. Excess NELBO is in nats over plain samples of the same "
        "reward; W1 is of lambda r to the target. ± is half of a 95% confidence interval over seeds.\n",
    ]
    for calls, table in rows.groupby("budget", sort=True):
        text += [f"\n## {calls} calls a sample ({table.groupby('method').size().max()} seeds)\n"]
        text += ["| method | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
        for method, found in table.groupby("method", sort=False):
            spans = [interval(found[name].tolist(), [""] * len(found), found["seed"].tolist()) for name in COLUMNS[:-1]]
            cells = [span.text(digits) for span, digits in zip(spans, [2, 3, 2, 3, 2, 2, 2], strict=True)]
            text.append(f"| {method} | " + " | ".join([*cells, f"{found['calls'].mean():.1f}"]) + " |")
    path.write_text("\n".join(text) + "\n")


def main(
    reward: Reward = RingCount(),  # noqa: B008
    temperature: float = 1.0,
    model: str = "udlm-qm9-small",
    out: str = "outputs/benchmarks/qm9-equal",
    budgets: list[int] = [64, 128],  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    samples: int = 256,
    references: int = 8192,
    only: list[str] | None = None,
    table: str | None = None,
) -> None:
    """Draws every row and writes the table."""
    backbone = UDLM.from_pretrained(model)
    home = Path(out) / f"{backbone.fingerprint()}-{backbone.random_solver(STEPS).name}"
    reference, rows = plain(home, backbone, reward, references), []
    chosen = {name: sampler for name, sampler in methods(temperature).items() if only is None or name in only}
    wanted = list(product(seeds, budgets, chosen.items()))
    title = (
        f"{reward.name} on QM9, lambda {temperature:g}, {samples} samples, {backbone.name} ({backbone.fingerprint()})"
    )
    for seed, budget, (name, sampler) in tqdm(wanted, unit="row"):
        place = home / f"{reward.name}-{temperature:g}" / f"{name.replace('/', 'over')}-{budget}-{samples}-{seed}"
        task = Task(
            backbone, backbone.random_solver(STEPS), reward, temperature=temperature, seed=seed,
            meter=Meter(budget * samples), batch_size=BATCH,
        )  # fmt: skip
        try:
            sized = sampler.within(budget, STEPS, samples, lambda steps: backbone.random_solver(steps).times)
        except ValueError as error:
            tqdm.write(f"left out: {name} @ {budget}: {error}")
            continue
        found = kept(
            place.with_suffix(".safetensors"), lambda sized=sized, task=task: drawn(backbone, sized, task, samples)
        )
        told = place.with_suffix(f".{references}.json")
        if not told.exists():
            row = measured(found["samples"].long(), backbone, reward, temperature, reference)
            write_atomically(told, json.dumps(row | {"calls": found["calls"].item()}).encode())
        rows.append({"seed": seed, "budget": budget, "method": name, **json.loads(told.read_text())})
        if table:
            write(pd.DataFrame(rows), title, reference, temperature, Path(__file__).parent / f"{table}.md")
    print(pd.DataFrame(rows).drop(columns="seed").groupby(["budget", "method"], sort=False).mean().round(3).to_string())


if __name__ == "__main__":
    auto_cli(main)
