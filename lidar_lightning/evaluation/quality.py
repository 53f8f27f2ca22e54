"""What no reward measures in molecules: how likely the model finds them, and how much they differ from each other."""

from collections.abc import Sequence

import torch
from rdkit import DataStructs
from rdkit.Chem import rdFingerprintGenerator
from torch import Tensor

from lidar_lightning.backbones import MoleculeBackbone
from lidar_lightning.losses.udlm import MIN_TIME
from lidar_lightning.rewards.molecules import parse

NEIGHBOURS = 64


@torch.no_grad()
def nelbo_of(
    backbone: MoleculeBackbone, samples: Tensor, draws: int = 8, seed: int = 0, batch_size: int = 256
) -> Tensor:
    """The model's bound on -log p(x0) in nats, averaged over `draws` times in even strata of [1e-3, 1): (n,) float64.

    Args:
        samples: clean tokens (n, L) int64.

    Raises:
        ValueError: if `draws` is below 1.
    """
    if draws < 1:
        raise ValueError(f"the NELBO is a mean over at least 1 draw, got {draws}")
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros(len(samples), dtype=torch.float64)
    offsets = torch.rand(len(samples), generator=generator)
    for draw in range(draws):
        times = MIN_TIME + (1 - MIN_TIME) * ((offsets + draw / draws) % 1)
        for x0, t, part in zip(*(x.split(batch_size) for x in (samples, times, total)), strict=True):
            x0, t = x0.to(backbone.device), t.to(backbone.device)
            part += backbone.error(x0, backbone.corrupt(x0, t, generator), t, None).double().cpu() / draws
    return total


def excess(values: Tensor, rewards: Tensor, reference: Tensor, reference_rewards: Tensor) -> Tensor:
    """How far values (n,) lie above those of plain samples of the same reward: (n,) float64.

    Samples of a rare reward are less likely by themselves; what is left is what a method adds. The value of plain
    samples is the mean over those of the reference (k,) whose rewards are nearest: 64 of them, and all that are as near
    as the last of these.

    Raises:
        ValueError: if the reference holds fewer than 64.
    """
    if len(reference) < NEIGHBOURS:
        raise ValueError(f"a reference of plain samples needs at least {NEIGHBOURS}, got {len(reference)}")
    found, places = rewards.double().unique(return_inverse=True)
    gaps = (reference_rewards.double() - found[:, None]).abs()
    near = gaps <= gaps.kthvalue(NEIGHBOURS, dim=1, keepdim=True).values
    plain = (near * reference.double()).sum(1) / near.sum(1)
    return values.double() - plain[places]


def fingerprint_diversity(strings: Sequence[str]) -> float:
    """One minus the mean Tanimoto similarity of all pairs of molecules, by Morgan fingerprints of radius 2.

    Strings that are not molecules are left out; with fewer than two molecules it is NaN. It is the internal diversity
    of MOSES (Polykovskiy et al., arXiv 1811.12823), with p = 1.
    """
    generator = rdFingerprintGenerator.GetMorganGenerator(2, fpSize=2048)
    prints = [generator.GetFingerprint(mol) for mol in map(parse, strings) if mol is not None]
    pairs = len(prints) * (len(prints) - 1) / 2
    similar = sum(sum(DataStructs.BulkTanimotoSimilarity(one, prints[:row])) for row, one in enumerate(prints))
    return 1 - similar / pairs if pairs else float("nan")
