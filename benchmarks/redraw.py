"""What redrawing the least likely token does to molecules: `python -m benchmarks.redraw` writes benchmarks/redraw.md.

Plain samples of a UDLM by the solver as published, by the one that redraws, and by nucleus sampling, which cuts the
unlikely tokens off each prediction, at the same network calls; all beside held-out molecules of QM9. Each drawing is
kept in `--out`, so that a killed run goes on where it stopped.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from jsonargparse import auto_cli
from rdkit import Chem
from rdkit.Chem import rdMolDescriptors
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm.auto import tqdm

from benchmarks.equal import bfloat16
from datamodules import QM9DataModule
from lidar_lightning import UDLM
from lidar_lightning.evaluation.molecules import canonical_strings
from lidar_lightning.evaluation.quality import fingerprint_diversity, nelbo_of
from lidar_lightning.rewards.molecules import QED, HeavyAtoms, LogP, RingCount, parse
from lidar_lightning.runs.intervals import interval
from lidar_lightning.samplers.plan import distance
from lidar_lightning.sampling import denoiser, last, trajectory
from lidar_lightning.solvers import Ancestral
from lidar_lightning.utils.files import write_atomically
from lidar_lightning.utils.seeding import Generators, stream_seed

BATCH = 256
PROPERTIES: dict[str, Callable[[Chem.Mol], float]] = {
    "rings": RingCount().value, "logP": LogP().value, "QED": QED().value, "heavy atoms": HeavyAtoms().value,
    "sp3": rdMolDescriptors.CalcFractionCSP3,
}  # fmt: skip
METHODS = {
    "as published": {}, "redraw": {"redraw": 0.2}, "nucleus 0.95": {"mass": 0.95}, "nucleus 0.9": {"mass": 0.9}
}  # fmt: skip


def likeliest(x0_hat: Tensor, mass: float) -> Tensor:
    """Predictions (B, L, V) of the likeliest tokens alone that hold `mass` together (Holtzman et al., 1904.09751)."""
    ordered, tokens = x0_hat.sort(-1, descending=True)
    kept = torch.zeros_like(x0_hat).scatter(-1, tokens, ordered * (ordered.cumsum(-1) - ordered < mass))
    return kept / kept.sum(-1, keepdim=True)


@torch.no_grad()
def drawn(backbone: UDLM, count: int, seed: int, steps: int, redraw: float = 0.0, mass: float = 1.0) -> Tensor:
    """Samples (count, L) uint8."""
    solver, parts = Ancestral(backbone.schedule, steps, redraw=redraw), []
    predict = denoiser(backbone, None)
    for first in range(0, count, BATCH):
        streams = Generators([stream_seed(seed, "molecule", i) for i in range(first, min(first + BATCH, count))])
        x = backbone.prior(streams)
        cut = (lambda x_t, t, s, x0_hat: likeliest(x0_hat, mass)) if mass < 1 else None
        with bfloat16(backbone):
            parts.append(last(x, trajectory(predict, solver, x, streams, cut)).to(torch.uint8))
    return torch.cat(parts)


def properties(molecules: list[Chem.Mol]) -> dict[str, Tensor]:
    """All values of each property (n,) float64."""
    return {name: torch.tensor([float(value(mol)) for mol in molecules]).double() for name, value in PROPERTIES.items()}


def measured(backbone: UDLM, samples: Tensor, known: frozenset[str], held_out: dict[str, Tensor]) -> dict[str, float]:
    """The columns of one drawing; distances are Wasserstein-1, in standard deviations of the held-out molecules."""
    strings = backbone.decode(samples.long())
    molecules = [parse(text) for text in strings]
    valid = torch.tensor([mol is not None for mol in molecules])
    found = canonical_strings(frozenset(strings))
    with bfloat16(backbone):
        bound = nelbo_of(backbone, samples[valid].long()).mean().item()
    row = {
        "valid": valid.double().mean().item(),
        "unique": len(found) / int(valid.sum()),
        "novel": len(found - known) / int(valid.sum()),
        "diversity": fingerprint_diversity(strings),
        "NELBO": bound,
    }
    for name, values in properties([mol for mol in molecules if mol is not None]).items():
        there = held_out[name]
        row[name] = distance(values, there, torch.full_like(there, 1 / len(there))) / there.std().item()
    return row


def main(
    model: str = "udlm-qm9-small",
    out: str = "outputs/benchmarks/redraw",
    steps: list[int] = [8, 16, 32, 64, 128],  # noqa: B006
    seeds: list[int] = [0, 1, 2],  # noqa: B006
    samples: int = 1024,
) -> None:
    """Draws every row and writes the table."""
    backbone, data = UDLM.from_pretrained(model).eval(), QM9DataModule()
    data.setup()
    known = canonical_strings(frozenset(backbone.decode(data.training)))
    held_out = properties([mol for mol in map(parse, backbone.decode(data.held_out)) if mol is not None])
    rows = []
    wanted = [(n, name, seed) for n in steps for name in METHODS for seed in seeds if n == 32 or "nucleus" not in name]
    for n, name, seed in tqdm(wanted, unit="row"):
        path = Path(out) / backbone.fingerprint() / f"{name}-{n}-{samples}-{seed}.safetensors"
        if not path.exists():
            write_atomically(path, save({"samples": drawn(backbone, samples, seed, n, **METHODS[name])}))
        rows.append({"calls": n, "solver": name} | measured(backbone, load_file(path)["samples"], known, held_out))
    table = pd.DataFrame(rows)
    columns = [name for name in table if name not in ("calls", "solver")]
    text = [
        f"# Redrawing the least likely token: {samples} plain samples of {backbone.name}, {len(seeds)} seeds\n",
        "Rings to sp3 are Wasserstein-1 distances to held-out molecules, in their standard deviations; NELBO is in "
        "nats, of valid samples. ± is half of a 95% confidence interval over seeds.\n",
        "| calls | solver | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for (n, name), found in table.groupby(["calls", "solver"], sort=False):
        cells = [interval(found[one].tolist(), [""] * len(found), list(range(len(found)))).text(3) for one in columns]
        text.append(f"| {n} | {name} | " + " | ".join(cells) + " |")
    Path(__file__).with_suffix(".md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    auto_cli(main)
