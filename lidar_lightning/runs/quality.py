"""What no reward measures in a comparison, found by plain samples that stand for the model's own distribution."""

import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor
from tqdm.auto import tqdm

from lidar_lightning.backbones import MoleculeBackbone
from lidar_lightning.backbones.base import Backbone
from lidar_lightning.evaluation.quality import NEIGHBOURS, excess, nelbo_of
from lidar_lightning.guidance.tilt import effective_sample_size
from lidar_lightning.rewards.base import Reward, utility
from lidar_lightning.rewards.molecules import parse
from lidar_lightning.runs.folder import RunFolder, prompt_name
from lidar_lightning.runs.parts import Part
from lidar_lightning.runs.summary import with_reward
from lidar_lightning.samplers.plan import distance
from lidar_lightning.utils.tensor_files import load_tensors, save_tensors

logger = logging.getLogger(__name__)
C = TypeVar("C")


class Measured(NamedTuple):
    """What `quality` needs of the samples of one prompt."""

    utilities: Tensor
    """Their rewards, signs turned where lower is better: (n,) float64."""
    valid: Tensor
    """Which are molecules (n,) bool."""
    bounds: Tensor | None
    """The model's NELBO of those in nats (m,) float64; None of models without one."""

    @classmethod
    def join(cls, parts: Sequence["Measured"]) -> "Measured":
        bounds = [part.bounds for part in parts if part.bounds is not None]
        utilities, valid = torch.cat([one.utilities for one in parts]), torch.cat([one.valid for one in parts])
        return cls(utilities, valid, torch.cat(bounds) if bounds else None)


def against_plain(
    runs: Mapping[C, Sequence[Part]],
    plain: Mapping[C, Sequence[Part]],
    folders: Mapping[C, RunFolder],
    backbone: Backbone,
    reward: Reward,
    temperature: float,
) -> tuple[dict[C, dict[str, float | None]], dict[str, float]]:
    """The columns of `quality` for each run, and what the plain samples say of the target; both empty without any.

    Args:
        runs, plain: finished samples of the runs, and the plain ones; one part for each prompt.
        folders: the folders of both.
    """

    def measured(cell: C, parts: Sequence[Part]) -> dict[str, Measured]:
        found = with_reward(parts, reward)
        return {part.prompts[0]: measure(folders[cell], part, backbone, reward) for part in found}

    if not plain:
        return {}, {}
    every = [measured(cell, parts) for cell, parts in tqdm(plain.items(), "plain samples", unit="run")]
    reference = {prompt: Measured.join([some[prompt] for some in every]) for prompt in every[0]}
    for prompt, one in reference.items():
        if one.bounds is not None and len(one.bounds) < NEIGHBOURS:
            logger.warning(
                "only %d of %d plain samples of %r are molecules: there is no excess_nelbo of it without %d",
                len(one.bounds), len(one.utilities), prompt, NEIGHBOURS,
            )  # fmt: skip
    bar = tqdm(runs.items(), "what no reward sees", unit="run")
    columns = {cell: quality(measured(cell, parts), reference, temperature) for cell, parts in bar}
    return columns, target_facts(reference, reward, temperature)


def measure(run: RunFolder, part: Part, backbone: Backbone, reward: Reward) -> Measured:
    """Measures what `quality` needs of a finished prompt; the bounds are kept in the folder of the run."""
    utilities = utility(reward, part.scores[reward.name]).double()
    if not isinstance(backbone, MoleculeBackbone):
        return Measured(utilities, torch.ones_like(utilities, dtype=torch.bool), None)
    valid = torch.tensor([parse(text) is not None for text in part.decoded])
    return Measured(utilities, valid, kept_bounds(run, part, backbone)[valid])


def kept_bounds(run: RunFolder, part: Part, backbone: MoleculeBackbone) -> Tensor:
    """The NELBO of all samples of a prompt (n,) float64, read from the run's folder or else computed and put there."""
    path = run.folder / "nelbo" / f"{prompt_name(part.prompts[0])}.safetensors"
    of = {"settings": run.identity, "count": len(part.indices)}
    try:
        tensors, facts = load_tensors(path)
        if facts == of:
            return tensors["nelbo"]
    except ValueError as error:
        if path.exists():
            logger.warning("%s: it is computed again", error)
    bounds = nelbo_of(backbone, part.samples.long())
    save_tensors(path, {"nelbo": bounds}, of)
    return bounds


def quality(
    found: Mapping[str, Measured], plain: Mapping[str, Measured], temperature: float
) -> dict[str, float | None]:
    """The columns of one run, from its samples and the plain ones, each by prompt. What is not known is None.

    Returns:
        "w1": the Wasserstein-1 distance between the distribution of lambda r and that under the target
        p(x0) exp(lambda r(x0)), for which the plain samples stand, weighted by exp(lambda r). "excess_nelbo", of a
        model with a NELBO: how many nats it lies above that of plain molecules of the same reward (see `excess`). Both
        are means over prompts.
    """
    gaps, beyond = [], []
    for prompt, own in found.items():
        reference = plain[prompt]
        target = temperature * reference.utilities
        gaps.append(distance(temperature * own.utilities, target, target.softmax(0)))
        if own.bounds is not None and reference.bounds is not None and own.valid.any():
            if len(reference.bounds) < NEIGHBOURS:
                continue
            values, others = own.utilities[own.valid], reference.utilities[reference.valid]
            beyond.append(excess(own.bounds, values, reference.bounds, others).mean().item())
    columns: dict[str, float | None] = {"w1": sum(gaps) / len(gaps)}
    if any(own.bounds is not None for own in found.values()):
        columns["excess_nelbo"] = sum(beyond) / len(beyond) if beyond else None
    return columns


def target_facts(plain: Mapping[str, Measured], reward: Reward, temperature: float) -> dict[str, float]:
    """What the plain samples say of the target, as means over prompts, for the settings of a summary."""
    weights = [(temperature * one.utilities).softmax(0) for one in plain.values()]
    rewards = [utility(reward, one.utilities) for one in plain.values()]
    means = [(weight * value).sum().item() for weight, value in zip(weights, rewards, strict=True)]
    sizes = [effective_sample_size(weight).item() for weight in weights]
    return {
        "references": len(rewards[0]),
        "target_reward": sum(means) / len(means),
        "target_effective": sum(sizes) / len(sizes),
    }
