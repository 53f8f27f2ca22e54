"""The rows of `benchmarks.tasks`: what each method asks of an objective until its scoring calls are spent.

Settings are fixed here: those of LiDAR and of fine-tuning by a trial on another task (QED, seed 100), those of the
genetic algorithm and of the REINVENT-style baseline as PMO has them, but for sizes that suit the budget.
"""

import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from benchmarks import reinvent_style
from benchmarks.equal import bfloat16, native_bfloat16
from datamodules import PreferenceDataModule
from lidar_lightning import UDLM, DPOModule, LiDARSettings, Lookahead, LookaheadBank
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.rewards import score
from lidar_lightning.rewards.remembered import Remembered
from lidar_lightning.samplers import LiDAR, Task
from lidar_lightning.sampling import sample
from lidar_lightning.utils.files import write_atomically
from lidar_lightning.utils.seeding import Generators, stream_seed
from lidar_lightning.utils.smiles_io import read_smiles
from recipes.rounds import Rounds

DRAFT, FULL, PART, BANK = 8, 32, 128, 150
SETTINGS = {"ess": 0.05, "restart": 0.5, "steps": 8, "rounds": 4}
PRECISION: Any = "bf16-mixed" if native_bfloat16("cpu") else "32-true"
TUNING = {"beta": 0.05, "lr": 1e-3, "draws": 1}


@dataclass
class Cell:
    """One method on one task with one seed."""

    objective: Remembered
    seed: int
    calls: int
    folder: Path
    """Of what the method keeps for itself."""
    shared: Path
    """Of what tasks share."""

    def left(self) -> bool:
        return self.objective.calls < self.calls

    def score(self, strings: list[str]) -> Tensor:
        return score(self.objective, strings, ["molecule"] * len(strings))


def model() -> UDLM:
    return UDLM.from_pretrained("udlm-qm9-small")


@torch.no_grad()
def plain(backbone: UDLM, steps: int, key: str, first: int, count: int = PART) -> Tensor:
    """Samples `first` to `first + count` of the model (count, L)."""
    streams = Generators([stream_seed(0, key, place) for place in range(first, first + count)])
    with bfloat16(backbone):
        return sample(backbone, backbone.solver(steps), streams, None).samples


def samples_of(cell: Cell, backbone: UDLM, steps: int, folder: Path, purpose: str) -> None:
    """Scores samples of a model, part by part, until the calls are spent; parts are kept in a folder."""
    first = 0
    while cell.left():
        path = folder / f"{purpose}-{steps}-{cell.seed}-{first}.safetensors"
        if not path.exists():
            drawn = plain(backbone, steps, f"{purpose} {cell.seed}", first)
            write_atomically(path, save({"samples": drawn.to(torch.uint8)}))
        cell.score(backbone.decode(load_file(path)["samples"].long()))
        first += PART


def best_of_n(cell: Cell) -> None:
    samples_of(cell, model(), FULL, cell.shared, "plain")


def drafts(cell: Cell) -> None:
    samples_of(cell, model(), DRAFT, cell.shared, "plain")


def bank(cell: Cell, backbone: UDLM) -> LookaheadBank:
    """Drafts of the model, scored: the first samples of `drafts`."""
    path = cell.shared / f"bank-{cell.seed}.safetensors"
    if not path.exists():
        write_atomically(path, save({"samples": plain(backbone, DRAFT, f"plain {cell.seed}", 0, BANK)}))
    tokens = load_file(path)["samples"]
    scores = {cell.objective.name: cell.score(backbone.decode(tokens))}
    return LookaheadBank.from_latents(backbone, tokens, scores, "molecule")


def guided(cell: Cell, backbone: UDLM, given: LookaheadBank) -> None:
    """LiDAR in rounds from a bank that is there, until the calls are spent."""
    candidates = cell.calls - cell.objective.calls
    for attempt in range(8):
        sampler = LiDAR(Lookahead(DRAFT, BANK), candidates=candidates / 50, **SETTINGS)
        task = Task(
            backbone, backbone.random_solver(SETTINGS["steps"]), cell.objective, temperature=None,
            seed=stream_seed(cell.seed, "guided", attempt), banks=lambda *_: given,
        )  # fmt: skip
        with bfloat16(backbone):
            sampler(task, 50)
        if not cell.left():
            return
        candidates = max(50, cell.calls - cell.objective.calls)


def lidar(cell: Cell) -> None:
    backbone = model()
    guided(cell, backbone, bank(cell, backbone))


def tuned(cell: Cell, steps: int = 30, batch_size: int = 16) -> tuple[UDLM, LookaheadBank]:
    """The model after DPO on its bank, and the bank; LoRA weights are kept beside what tasks share."""
    backbone = model()
    given, home = bank(cell, backbone), cell.shared / f"dpo-{cell.objective.name}-{cell.seed}"
    L.seed_everything(cell.seed, verbose=False)
    module = DPOModule(backbone, lora=LoRA(), warmup=5, **TUNING)
    if not (home / "lora.safetensors").exists():
        given.save(home / "bank" / "bank.safetensors")
        data = PreferenceDataModule(str(home / "bank"), cell.objective, 1024, 0.25, 0.0, batch_size, cell.seed)
        trainer = L.Trainer(
            max_steps=steps, precision=PRECISION, logger=False, enable_checkpointing=False,
            enable_model_summary=False, enable_progress_bar=False,
        )  # fmt: skip
        trainer.fit(module, data)
        state = {name: value for name, value in module.state_dict().items() if "lora" in name}
        write_atomically(home / "lora.safetensors", save(state))
    module.load_state_dict(load_file(home / "lora.safetensors"), strict=False)
    return backbone.eval(), given


def dpo(cell: Cell) -> None:
    samples_of(cell, tuned(cell)[0], DRAFT, cell.folder, "policy")


def dpo_lidar(cell: Cell) -> None:
    guided(cell, *tuned(cell))


def rounds(cell: Cell) -> None:
    """`lidar rounds`: three, or as many more as it takes to spend the calls."""
    number, settings = 2, {"ess": SETTINGS["ess"], "restart": SETTINGS["restart"]}
    while cell.left() and number < 12:
        number += 1
        made = Rounds(
            model(), cell.objective.reward, str(cell.folder), "molecule", number, Lookahead(DRAFT, 90), 105,
            SETTINGS["steps"], LiDARSettings(**settings), keep=60, tuning_steps=15, batch_size=16,
            precision=PRECISION, seed=cell.seed, **TUNING,
        )  # fmt: skip
        made.run()
        cell.score([name for _, name in made.reward.asked])  # type: ignore[attr-defined]


def genetic(cell: Cell) -> None:
    """The graph GA of mol-ga (Tripp and Hernandez-Lobato, arXiv 2310.09267), from 100 random molecules of QM9."""
    from mol_ga import default_ga

    class SpentError(Exception):
        pass

    def scored(strings: list[str]) -> list[float]:
        if not cell.left():
            raise SpentError
        return cell.score(strings).tolist()

    stream = random.Random(cell.seed)
    with suppress(SpentError):
        default_ga(sorted(stream.sample(read_smiles(), 100)), scored, 10_000, 50, rng=stream)


def reinvent(cell: Cell) -> None:
    first = reinvent_style.prior(cell.shared / "prior.safetensors")
    reinvent_style.optimise(first, cell.score, cell.left, cell.seed)


METHODS: dict[str, Callable[[Cell], None]] = {
    "best-of-N of plain samples": best_of_n,
    "best-of-N of drafts": drafts,
    "LiDAR": lidar,
    "DPO": dpo,
    "DPO+LiDAR": dpo_lidar,
    "rounds": rounds,
    "genetic (mol-ga)": genetic,
    "REINVENT-style": reinvent,
}
"""Rows of the table, in their order."""
