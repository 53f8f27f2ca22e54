"""Pools: what rounds have found so far, as banks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from lidar_lightning.backbones import Backbone
from lidar_lightning.lookahead.bank import LookaheadBank
from lidar_lightning.rewards import Reward
from lidar_lightning.samplers.select import best_of
from lidar_lightning.utils.tensor_files import checksum


def bank_of(folder: Path, prompt: str) -> LookaheadBank:
    """The bank of a prompt among those of a folder. Raises ValueError if there is none."""
    for bank in map(LookaheadBank.load, sorted(folder.glob("*.safetensors"))):
        if bank.provenance.prompt == prompt:
            return bank
    raise ValueError(f"no bank of {prompt!r} is in {folder}: its files were removed; begin the run anew")


def joined(banks: Sequence[LookaheadBank]) -> LookaheadBank:
    """All samples of scored banks of one prompt as one bank, with the rewards that all of them hold."""
    first = banks[0]
    names = [name for name in first.rewards if all(name in bank.rewards for bank in banks)]
    samples = torch.cat([bank.samples.cpu() for bank in banks])
    return replace(
        first,
        samples=samples,
        rewards={name: torch.cat([bank.rewards[name].cpu() for bank in banks]) for name in names},
        provenance=replace(
            first.provenance, fingerprint=checksum({"samples": samples}), solver="pool", steps=0, n=len(samples)
        ),
        seconds=0.0,
    )


def best(bank: LookaheadBank, backbone: Backbone, reward: Reward, count: int) -> LookaheadBank:
    """The `count` samples of a bank with the highest reward, different ones as long as there are so many."""
    rows = best_of(
        backbone.identities(bank.samples), reward.from_scores(bank.rewards).double(), min(count, len(bank.samples))
    )
    rewards = {name: value[rows] for name, value in bank.rewards.items()}
    return joined([replace(bank, samples=bank.samples[rows], rewards=rewards)])


def top(bank: LookaheadBank, backbone: Backbone, reward: Reward, count: int) -> float:
    """The mean utility of the `count` best different samples of a bank."""
    return reward.from_scores(best(bank, backbone, reward, count).rewards).double().mean().item()
