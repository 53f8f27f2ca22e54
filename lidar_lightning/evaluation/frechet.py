"""The distance of generated pictures from real ones, in features that no reward uses."""

from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def encoder_features(vae: Any, pictures: Tensor, batch_size: int = 64) -> Tensor:
    """Features of pictures that an AutoencoderKL's encoder computes before its last convolution: (n, 2 C) float64.

    They are the means and standard deviations of its C deepest channels over all places of a picture.

    Args:
        pictures: (n, 3, H, W) in [0, 1].
    """
    found: list[Tensor] = []
    hook = vae.encoder.conv_norm_out.register_forward_pre_hook(lambda module, args: found.append(args[0].flatten(2)))
    try:
        for part in pictures.split(batch_size):
            vae.encoder((2 * part - 1).to(vae.device, vae.dtype))
    finally:
        hook.remove()
    return torch.cat([torch.cat((part.mean(2), part.std(2)), 1).double().cpu() for part in found])


def frechet_distance(features: Tensor, others: Tensor) -> float:
    """The Fréchet distance between two sets of features (n, d) and (m, d), each taken as a Gaussian.

    Raises:
        ValueError: if one of them has no more rows than columns, so that its covariance would be singular.

    Source: Heusel et al., arXiv 1706.08500.
    """
    fewest = min(len(features), len(others))
    if fewest <= features.shape[1]:
        raise ValueError(
            f"a Fréchet distance in {features.shape[1]} features needs more samples than that in both sets, got "
            f"{fewest}"
        )
    return gaussian_distance(moments(features), moments(others))


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (d,) and covariance (d, d) of features (n, d), float64."""
    return features.double().mean(0), features.double().T.cov()


def gaussian_distance(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> float:
    """The Fréchet distance of two Gaussians, each given by its mean and covariance.

        |mean - mean'|^2 + trace(C + C' - 2 (C^1/2 C' C^1/2)^1/2)

    Source: Heusel et al., arXiv 1706.08500.
    """
    (mean, covariance), (mean_, covariance_) = one, other
    values, vectors = torch.linalg.eigh(covariance)
    root = vectors * values.clamp_min(0).sqrt() @ vectors.T
    shared = torch.linalg.eigvalsh(root @ covariance_ @ root).clamp_min(0).sqrt().sum()
    return ((mean - mean_).square().sum() + covariance.trace() + covariance_.trace() - 2 * shared).item()
