"""The numbers of a finished run."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from lidar_lightning.evaluation.distribution import PAIRED, distribution_metrics
from lidar_lightning.evaluation.molecules import molecule_metrics, training_strings
from lidar_lightning.evaluation.pictures import diversity_within
from lidar_lightning.evaluation.quality import fingerprint_diversity
from lidar_lightning.lookahead.bank import LookaheadBank
from lidar_lightning.rewards import Reward, utility
from lidar_lightning.rewards.molecules import parse
from lidar_lightning.runs.parts import Part


def with_reward(parts: Sequence[Part], reward: Reward) -> list[Part]:
    """The parts with the guiding reward, and what it weighs, among their scores, also where it combines others.

    A combination is relative to the samples that it is computed on: all of these parts.
    """
    stored = {name: torch.cat([part.scores[name] for part in parts]) for name in parts[0].scores}
    sizes = [len(part.samples) for part in parts]
    found = {name: value.split(sizes) for name, value in all_scores(stored, reward).items()}
    return [
        replace(part, scores={name: value[place] for name, value in found.items()}) for place, part in enumerate(parts)
    ]


def all_scores(stored: Mapping[str, Tensor], reward: Reward) -> dict[str, Tensor]:
    """Stored scores (n,) by name, after those of the guiding reward and of the rewards that it weighs, if they follow
    from the stored ones."""
    own = [one for one in (reward, *reward.components) if one.name not in stored]
    return {**{one.name: utility(one, one.from_scores(stored)) for one in own}, **stored}


UNTOLD = ("validity",)
"""Rewards whose mean over valid molecules says nothing."""


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

    Pictures have those of `picture_metrics`. Molecules have those of `molecule_metrics` and `distribution_metrics`, the
    mean of every stored reward over the valid ones, by its name, and the `fingerprint_diversity` of at most 2,048 of
    them, which is 0 if fewer than two are valid.
    """
    parts = with_reward(parts, reward)
    stored = {name: torch.cat([part.scores[name] for part in parts]) for name in parts[0].scores}
    scores = stored[reward.name]
    if modality == "image":
        return picture_metrics(parts, scores, stored)
    strings = [text for part in parts for text in part.decoded]
    diversity = fingerprint_diversity(strings[:: -(-len(strings) // PAIRED)])
    found = molecule_metrics(strings, training_strings(training_data), scores)
    valid = torch.tensor([parse(text) is not None for text in strings])
    means = {name: value[valid].mean().item() for name, value in stored.items() if name not in UNTOLD and valid.any()}
    return {
        **found,
        **{name: value for name, value in means.items() if name not in found},
        "diversity": 0.0 if math.isnan(diversity) else diversity,
        **distribution_metrics(strings, training_data),
    }


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
