"""Methods at equal network calls on QM9, with what no reward sees: `python -m benchmarks.qm9_equal --table qm9-equal`.

Every method is pooled over the prompt, spends at least 95% of its budget, and has the settings of `methods`, which
were chosen on seeds 100 and 101. With `--table NAME`, NAME.csv beside this file keeps each row that is finished, so
that a killed run goes on where it stopped, and NAME.md is the table of all so far; ± is half of a 95% confidence
interval over seeds, each of which has its own bank or pool. Drafts and lookaheads of a seed are drawn once, into
`--out`, for all rows that begin with them.
"""

from itertools import product
from pathlib import Path

import pandas as pd
import torch
from jsonargparse import auto_cli
from torch import Tensor
from tqdm.auto import tqdm

from benchmarks.equal import Banks, Rows, bfloat16, kept
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
    BestLookaheads,
    BestOfN,
    DraftThenFinish,
    LiDAR,
    LiDARSMC,
    Sampler,
    Task,
)
from lidar_lightning.samplers.meter import Meter
from lidar_lightning.samplers.plan import distance
from lidar_lightning.utils.smiles_io import read_smiles

STEPS, BATCH, PART, REFERENCE_SEED = 32, 256, 1024, 1_000_000
COLUMNS = ["reward", "valid", "excess NELBO", "diversity", "unique", "novel", "W1", "calls"]


def methods(temperature: float, budget: int) -> dict[str, Sampler]:
    """The rows of the table; budgets set their free numbers. Best-of-N takes its samples from the bank of its seed.

    Rounds whose candidates are drawn have the tilt lambda / 2 at 64 calls, and a softer one the more are drawn.
    """
    drafts, restart = Lookahead(8), {"restart": 0.4, "steps": 8}
    return {
        "best-of-N, full passes": BestLookaheads(Lookahead(STEPS)),
        "best-of-N, 8 steps": BestLookaheads(drafts),
        "best-of-N, 6 steps": BestLookaheads(Lookahead(6)),
        "draft-then-finish": DraftThenFinish(draft_steps=4, at=0.2, steps=8),
        "beam search": BeamSearch(children=2, ahead_steps=2, steps=9),
        "SMC, best": SMC(potential="diff", every=4, keep="best", steps=8),
        "SMC, drawn": SMC(potential="diff", every=4, keep="draw", steps=8),
        "SVDD": SVDD(keep="best", steps=8),
        "DAS": DAS(derivative_free=True, keep="best", steps=8),
        "LiDAR+SMC": LiDARSMC(Lookahead(8, 200), stop=0.3, keep="best", steps=8),
        "LiDAR as published": LiDAR(drafts, stop=0.3),
        "LiDAR, 4 rounds, lambda / 8": LiDAR(drafts, rounds=4, temperature=temperature / 8, **restart),
        "LiDAR, 4 rounds, lambda / 4": LiDAR(drafts, rounds=4, temperature=temperature / 4, **restart),
        "LiDAR, 4 rounds of 16 steps, lambda / 4": LiDAR(
            drafts, rounds=4, temperature=temperature / 4, restart=0.4, steps=16
        ),
        "LiDAR, 4 rounds, drawn": LiDAR(
            drafts, keep="draw", rounds=4, temperature=temperature / 2 * (64 / budget) ** 0.5, **restart
        ),
    }


def drawn(backbone: UDLM, sampler: Sampler, task: Task, count: int) -> dict[str, Tensor]:
    """Samples (count, L) uint8 and what each cost."""
    with bfloat16(backbone):
        samples = sampler(task, count)
    return {"samples": samples.to(torch.uint8), "calls": torch.tensor(task.meter.network / count)}


def plain(folder: Path, backbone: UDLM, reward: Reward, count: int) -> dict[str, Tensor]:
    """Plain samples of the task's solver, with their rewards and NELBO, which stand for the model's own law.

    They are in a file beside this one, or are drawn into it, part by part.
    """

    def part(seed: int) -> dict[str, Tensor]:
        task = Task(backbone, backbone.random_solver(STEPS), reward, seed=seed, batch_size=BATCH)
        found = drawn(backbone, BestOfN(1), task, PART)
        with bfloat16(backbone):
            return {"samples": found["samples"], "nelbo": nelbo_of(backbone, found["samples"].long(), seed=seed)}

    def whole() -> dict[str, Tensor]:
        seeds = tqdm(range(REFERENCE_SEED, REFERENCE_SEED + count // PART), desc="plain samples", unit="part")
        parts = [kept(folder / "plain" / f"{seed}.safetensors", lambda seed=seed: part(seed)) for seed in seeds]
        bounds = torch.cat([part["nelbo"] for part in parts]).float()
        return {"samples": torch.cat([part["samples"] for part in parts]), "nelbo": bounds}

    redraw = backbone.random_solver(STEPS).redraw
    name = f"qm9-plain-{count}-{backbone.fingerprint()}-redraw-{redraw:g}.safetensors"
    found = kept(Path(__file__).with_name(name), whole)
    strings = backbone.decode(found["samples"].long())
    valid = torch.tensor([parse(text) is not None for text in strings])
    return {"values": values_of(reward, strings), "nelbo": found["nelbo"], "valid": valid}


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
        text += [f"\n## {calls} calls a sample\n"]
        text += ["| method | seeds | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 2) + "|"]
        for method in methods(temperature, calls):
            found = table[table["method"] == method]
            if len(found):
                spans = [interval(found[n].tolist(), [""] * len(found), found["seed"].tolist()) for n in COLUMNS[:-1]]
                cells = [span.text(digits) for span, digits in zip(spans, [2, 3, 2, 3, 2, 2, 2], strict=True)]
                cells += [f"{found['calls'].mean():.1f}"]
                text.append(f"| {method} | {len(found)} | " + " | ".join(cells) + " |")
    path.write_text("\n".join(text) + "\n")


def main(
    reward: Reward = RingCount(),  # noqa: B008
    temperature: float = 1.0,
    model: str = "udlm-qm9-small",
    out: str = "outputs/benchmarks/qm9-equal",
    budgets: list[int] = [64, 128],  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    samples: int = 256,
    references: int = 16384,
    only: list[str] | None = None,
    table: str = "qm9-equal",
    largest: int = 256,
) -> None:
    """Draws every row that is not in the table's CSV file yet, and writes the table; `largest` is of all budgets."""
    backbone = UDLM.from_pretrained(model)
    backbone.backbone.compile(dynamic=True)
    home = Path(out) / f"{backbone.fingerprint()}-{backbone.random_solver(STEPS).name}"
    reference, place = plain(home, backbone, reward, references), Path(__file__).parent / table
    rows = Rows(place.with_suffix(".csv"), ["budget", "method", "seed"])
    title = (
        f"{reward.name} on QM9, lambda {temperature:g}, {samples} samples, {backbone.name} ({backbone.fingerprint()})"
    )
    wanted = [(*key, name) for key in product(seeds, budgets) for name in only or methods(temperature, key[1])]
    for seed, budget, name in tqdm(wanted, unit="row"):
        if len(rows.of(budget=budget, method=name, seed=seed)):
            continue
        sampler = methods(temperature, budget)[name]
        task = Task(
            backbone, backbone.random_solver(STEPS), reward, temperature=temperature, seed=seed, batch_size=BATCH,
            meter=Meter(budget * samples), banks=Banks(backbone, reward, seed, home / "banks", largest * samples),
        )  # fmt: skip
        try:
            sized = sampler.within(budget, STEPS, samples, lambda steps: backbone.random_solver(steps).times)
        except ValueError as error:
            tqdm.write(f"left out: {name} @ {budget}: {error}")
            continue
        found = drawn(backbone, sized, task, samples)
        row = measured(found["samples"].long(), backbone, reward, temperature, reference)
        told = {"budget": budget, "method": name, "seed": seed, "calls": found["calls"].item()}
        rows.add(pd.DataFrame([told | row]))
        write(rows.table, title, reference, temperature, place.with_suffix(".md"))
    write(rows.table, title, reference, temperature, place.with_suffix(".md"))
    print(rows.table.drop(columns="seed").groupby(["budget", "method"], sort=False).mean().round(3).to_string())


if __name__ == "__main__":
    auto_cli(main)
