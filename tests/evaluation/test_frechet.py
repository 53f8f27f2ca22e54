"""The Fréchet distance of pictures, against Gaussians whose distance is known."""

import math

import pytest
import torch

from lidar_lightning.evaluation.frechet import encoder_features, frechet_distance
from lidar_lightning.shapes.networks import autoencoder


def with_moments(mean: torch.Tensor, covariance: torch.Tensor, n: int = 50) -> torch.Tensor:
    """Samples whose mean and covariance are exactly these."""
    x = torch.randn(n, len(mean), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x = x - x.mean(0)
    white = torch.linalg.solve_triangular(torch.linalg.cholesky(x.T.cov()), x.T, upper=False)
    return (torch.linalg.cholesky(covariance) @ white).T + mean


def test_frechet_distance_is_that_of_gaussians():
    zero, eye = torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    # Of covariances that commute, the distance is |mean - mean'|^2 + sum (sigma - sigma')^2.
    mean, spread = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.5, 1.0, 3.0]).double()
    one, other = with_moments(zero, eye), with_moments(mean, torch.diag(spread.square()))
    expected = (mean.square().sum() + (spread - 1).square().sum()).item()
    assert frechet_distance(one, other) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(other, one) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(other, other) == pytest.approx(0, abs=1e-6)
    # Of two that do not, against the eigenvalues of their product in two dimensions.
    a = torch.tensor([[2.0, 0.5], [0.5, 1.0]]).double()
    b = torch.tensor([[1.0, -0.7], [-0.7, 3.0]]).double()
    product = a @ b
    root = math.sqrt(product.trace() + 2 * math.sqrt(product.det()))
    found = frechet_distance(with_moments(zero[:2], a), with_moments(zero[:2], b))
    assert found == pytest.approx((a.trace() + b.trace()).item() - 2 * root, rel=1e-9)
    with pytest.raises(ValueError, match="needs more samples than that in both sets, got 3"):
        frechet_distance(one[:3], other)


def test_features_are_statistics_of_the_encoder():
    torch.manual_seed(0)
    vae, pictures = autoencoder((16, 16, 16)).eval(), torch.rand(5, 3, 16, 16)
    features = encoder_features(vae, pictures, batch_size=2)
    assert features.shape == (5, 32) and features.dtype == torch.float64
    assert torch.allclose(features[3:4], encoder_features(vae, pictures[3:4]), atol=1e-5)
    assert not vae.encoder.conv_norm_out._forward_pre_hooks
