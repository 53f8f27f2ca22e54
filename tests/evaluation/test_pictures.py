"""Diversity of pictures, against pairs written out."""

from itertools import combinations

import pytest
import torch

from lidar_lightning.evaluation.pictures import diversity_within


def test_diversity_is_over_pairs_of_one_prompt():
    pictures = torch.rand(7, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    prompts = ["a", "b", "a", "c", "b", "a", "b"]
    means = []
    for rows in ([0, 2, 5], [1, 4, 6]):
        pairs = [(pictures[i] - pictures[j]).square().mean().sqrt() for i, j in combinations(rows, 2)]
        means.append(torch.stack(pairs).mean().item())
    assert diversity_within(prompts, pictures) == pytest.approx(sum(means) / 2)
    assert diversity_within(["a", "b"], pictures[:2]) == 0
    assert diversity_within(["a", "a"], pictures[:1].expand(2, -1, -1, -1)) == 0
