"""What a continuous network predicts, and the clean sample that it means: the same number seen from two sides.

With x_t = alpha x0 + sigma eps the published networks predict

    epsilon            eps
    v_prediction       alpha eps - sigma x0        (variance preserving: alpha^2 + sigma^2 = 1)
    flow_prediction    eps - x0                    (flow matching: alpha = 1 - sigma)
    sample             x0

Given x_t each is affine in x0, and `slope` is its derivative: an edit of x0 by d edits the prediction by slope * d, and
the squared error of the prediction is slope^2 times that of x0. Names are those of diffusers' `prediction_type`.
"""

import torch
from torch import Tensor

KINDS = ("epsilon", "v_prediction", "flow_prediction", "sample")


def to_x0(output: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, kind: str) -> Tensor:
    """The clean sample (B, *S) that a network's output (B, *S) at x_t (B, *S) means; alpha and sigma broadcast."""
    if kind == "epsilon":
        return (x_t - sigma * output) / alpha
    if kind == "v_prediction":
        return alpha * x_t - sigma * output
    if kind == "flow_prediction":
        return x_t - sigma * output
    return output


def from_x0(x0: Tensor, x_t: Tensor, alpha: Tensor, sigma: Tensor, kind: str) -> Tensor:
    """The network output (B, *S) that means x0 (B, *S): the inverse of `to_x0`."""
    if kind == "epsilon":
        return (x_t - alpha * x0) / sigma
    if kind == "v_prediction":
        return (alpha * x_t - x0) / sigma
    if kind == "flow_prediction":
        return (x_t - x0) / sigma
    return x0


def slope(alpha: Tensor, sigma: Tensor, kind: str) -> Tensor:
    """The derivative d output / d x0 at fixed x_t."""
    if kind == "epsilon":
        return -alpha / sigma
    return torch.ones_like(sigma) if kind == "sample" else -1 / sigma


def check_kind(kind: str) -> str:
    """Returns the kind if it is known. Raises ValueError otherwise."""
    if kind not in KINDS:
        raise ValueError(f"unknown prediction_type {kind!r}: use one of {', '.join(KINDS)}")
    return kind
