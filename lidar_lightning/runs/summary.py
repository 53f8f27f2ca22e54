"""The numbers of a finished run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lidar_lightning.evaluation.molecules import molecule_metrics
from lidar_lightning.evaluation.pictures import diversity_within
from lidar_lightning.evaluation.quality import fingerprint_diversity
from lidar_lightning.lookahead.bank import LookaheadBank
from lidar_lightning.rewards import Reward, utility
from lidar_lightning.runs.parts import Part
from lidar_lightning.utils.smiles_io import read_smiles


def with_reward(parts: Sequence[Part], reward: Reward) -> list[Part]:
    """The parts with the guiding reward among their scores, even if it combines others.

    A combination is relative to the samples on which it is computed, which are those of all these parts.
    """
    if reward.name in parts[0].scores:
        return list(parts)
    stored = {name: torch.cat([part.scores[name] for part in parts]) for name in parts[0].scores}
    values = reward.from_scores(stored).split([len(part.samples) for part in parts])
    return [
        replace(part, scores={reward.name: value, **part.scores}) for part, value in zip(parts, values, strict=True)
    ]


PAIRED = 2048
"""Molecules whose pairs are compared, at most: their number grows with the square."""


def picture_metrics(parts: Sequence[Part], scores: Tensor, stored: Mapping[str, Tensor]) -> dict[str, float]:
    """The metrics of pictures: the number of samples, the mean of the guiding reward ("reward") and of every stored one
    (by its name), and the diversity of the latents of each prompt (see `diversity_within`)."""
    prompts = [prompt for part in parts for prompt in part.prompts]
    return {
        "samples": float(len(scores)),
        "reward": scores.mean().item(),
        **{name: values.mean().item() for name, values in stored.items()},
        "diversity": diversity_within(prompts, torch.cat([part.samples.cpu() for part in parts])),
    }


def sample_metrics(
    parts: Sequence[Part], reward: Reward, modality: str = "molecule", training_data: str | None = None
) -> dict[str, float]:
    """The metrics of the samples of a run.

    Pictures have those of `picture_metrics`. Molecules have those of `molecule_metrics` and the `fingerprint_diversity`
    of at most 2,048 of them, which is 0 if fewer than two are valid."""
    parts = with_reward(parts, reward)
    stored = {name: torch.cat([part.scores[name] for part in parts]) for name in parts[0].scores}
    scores = stored[reward.name]
    if modality == "image":
        return picture_metrics(parts, scores, stored)
    strings = [text for part in parts for text in part.decoded]
    diversity = fingerprint_diversity(strings[:: -(-len(strings) // PAIRED)])
    found = molecule_metrics(strings, set(read_smiles(training_data)), scores)
    return {**found, "diversity": 0.0 if math.isnan(diversity) else diversity}


def lookahead_metrics(reward: Reward, banks: Sequence[LookaheadBank]) -> dict[str, float]:
    """The metric lookahead_reward: the mean reward of the banks, with which guidance began.

    A reward that is relative to the samples that it is scored with has none.
    """
    if not banks or reward.relative:
        return {}
    means = [utility(reward, reward.from_scores(bank.rewards)).mean() for bank in banks]
    return {"lookahead_reward": torch.stack(means).mean().item()}


def summarise(
    parts: Sequence[Part],
    reward: Reward,
    banks: Sequence[LookaheadBank],
    modality: str = "molecule",
    training_data: str | None = None,
    evaluations: tuple[int, int] = (1, 1),
) -> dict[str, float]:
    """Metrics, cost and time of a run.

    `calls` is the number of network calls per sample, including its share of the lookaheads, and `nfe` the number of
    evaluations of the network in them. `seconds` is the time of sampling, decoding and scoring, summed over processes,
    and of drawing the banks.

    Args:
        parts: all samples.
        reward: the guiding reward.
        banks: one bank for each prompt; none for an unguided run.
        modality: "molecule" or "image", which decides on the metrics.
        training_data: the SMILES file against which novelty is measured; None takes QM9.
        evaluations: how often the network is evaluated in one call of the model, and in one of what draws lookaheads.
    """
    count = sum(len(part.samples) for part in parts)
    lookahead_calls = sum(len(bank.samples) * bank.provenance.steps for bank in banks)
    bank_seconds = sum(bank.seconds for bank in banks)
    return {
        **sample_metrics(parts, reward, modality, training_data),
        **lookahead_metrics(reward, banks),
        "calls": parts[0].nfe + lookahead_calls / count,
        "nfe": parts[0].nfe * evaluations[0] + lookahead_calls / count * evaluations[1],
        "seconds": sum(part.seconds for part in parts) + bank_seconds,
        "lookahead_seconds": bank_seconds,
    }
