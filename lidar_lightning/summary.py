"""The numbers of a finished run."""

from collections.abc import Sequence

import torch

from lidar_lightning.bank import LookaheadBank
from lidar_lightning.metrics import molecule_metrics
from lidar_lightning.rewards import Reward
from lidar_lightning.smiles_io import read_smiles
from lidar_lightning.writers import Part


def summarise(
    parts: Sequence[Part], reward: Reward, banks: Sequence[LookaheadBank], training_data: str | None = None
) -> dict[str, float]:
    """Metrics, cost and time of a run.

    `nfe` is network calls per sample with the sample's share of the lookahead; `seconds` is the time of sampling,
    decoding and scoring, summed over processes, and of drawing the banks.

    Args:
        parts: all batches.
        reward: the guiding reward.
        banks: one per prompt; none for an unguided run.
        training_data: SMILES file for novelty; None takes QM9.
    """
    strings = [text for part in parts for text in part.decoded]
    stored = {name: torch.cat([part.scores[name] for part in parts]) for name in parts[0].scores}
    scores = stored[reward.name] if reward.name in stored else reward.from_scores(stored)
    lookahead_calls = sum(len(bank.samples) * bank.provenance.steps for bank in banks)
    bank_seconds = sum(bank.seconds for bank in banks)
    return {
        **molecule_metrics(strings, set(read_smiles(training_data)), scores),
        "nfe": parts[0].nfe + lookahead_calls / len(strings),
        "seconds": sum(part.seconds for part in parts) + bank_seconds,
        "lookahead_seconds": bank_seconds,
    }
