"""What samplers that differentiate the reward share: the gradient, and when and how strongly it acts."""

from typing import NamedTuple

import torch
from torch import Tensor

from lidar_lightning.samplers.base import Sampler
from lidar_lightning.samplers.task import Task


class Slope(NamedTuple):
    """The prediction x0_hat (B, *S), lambda r(x0_hat) (B,) float64 and its gradient with respect to x_t (B, *S)."""

    x0_hat: Tensor
    value: Tensor
    gradient: Tensor


def reward_slope(task: Task, x_t: Tensor, t: float) -> Slope:
    """The gradient of lambda r(x0_hat(x_t)) through decoder and network, `task.batch_size` rows at a time.

    The task's meter counts it.

    Raises:
        ValueError: if x_t are tokens, which have no gradient, or if a gradient is not finite.
    """
    if not x_t.is_floating_point():
        raise ValueError(
            f"{task.backbone.name!r} is a model of tokens, which have no gradient: use a sampler without gradients, "
            "such as BestOfN, SMC or DAS(derivative_free=True)"
        )
    task.meter.backward += len(x_t)
    parts = [_slope(task, rows, t) for rows in x_t.split(task.batch_size)]
    return Slope(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _slope(task: Task, x_t: Tensor, t: float) -> Slope:
    with torch.enable_grad():
        x_t = x_t.detach().requires_grad_()
        x0_hat = task.predict(x_t, t)
        value = task.value(task.solver.estimate(x0_hat, x_t, t))
        (gradient,) = torch.autograd.grad(value.sum(), x_t)
    if not gradient.isfinite().all():
        raise ValueError(
            f"the gradient of the reward {task.reward.name!r} is not finite at t = {t:g}: mend the reward, or use a "
            "sampler without gradients"
        )
    return Slope(x0_hat.detach(), value.detach(), gradient)


def coefficients(task: Task, *times: float) -> list[tuple[float, float]]:
    """The pair (alpha, sigma) at each time."""
    alpha, sigma = task.backbone.schedule(torch.tensor(times, dtype=torch.float64))
    return list(zip(alpha.tolist(), sigma.tolist(), strict=True))


def damping(temperature: float, alpha: float, sigma: float, spread: float, curvature: float = 2.0) -> float:
    """The factor 1 / (1 + c lambda v) in (0, 1], with v = spread^2 sigma^2 / (spread^2 alpha^2 + sigma^2).

    For data N(m, spread^2 I), v is the variance of x0 given x_t. For r = -(c / 2) |x - centre|^2 the factor then turns
    the gradient of lambda r(x0_hat(x_t)) into that of log E[exp(lambda r(x0)) | x_t], which exact guidance follows.
    With c = 2 it is the reward damping schedule of Dandapanthula and Boffi, "Are we really tilting?", arXiv 2606.02884,
    who treat the spread as a setting for other data or rewards. Damping does not help to choose between modes.
    """
    variance = (spread * sigma) ** 2 / ((spread * alpha) ** 2 + sigma**2)
    return 1 / (1 + curvature * temperature * variance)


class GradientSampler(Sampler):
    """A sampler that follows the gradient of the reward with respect to x_t while stop < t <= start.

    Args:
        scale: strength of the guidance, at least 0.
        start, stop: times between which the sampler guides; t = 1 is pure noise.
        damped: whether the strength is multiplied by `damping`, which keeps it from overshooting.
        spread: standard deviation of the data that damping assumes, above 0.
        curvature: c >= 0 of the reward r = -(c / 2) |x - x_best|^2 that damping assumes.

    Raises:
        ValueError: if a setting is out of range.
    """

    gradients = True

    def __init__(
        self,
        scale: float = 1.0,
        start: float = 1.0,
        stop: float = 0.0,
        damped: bool = False,
        spread: float = 1.0,
        curvature: float = 2.0,
    ):
        if scale < 0 or not 0 <= stop <= start <= 1 or spread <= 0 or curvature < 0:
            raise ValueError(
                "scale and curvature are at least 0, spread is above 0 and 0 <= stop <= start <= 1, "
                f"got {scale}, {curvature}, {spread}, {stop} and {start}"
            )
        self.scale, self.start, self.stop = scale, start, stop
        self.damped, self.spread, self.curvature = damped, spread, curvature

    def guides(self, t: float) -> bool:
        return self.stop < t <= self.start

    def strength(self, task: Task, t: float) -> float:
        """The scale at time t, damped if `damped` is set."""
        ((alpha, sigma),) = coefficients(task, t)
        return self.scale * (damping(task.tilt, alpha, sigma, self.spread, self.curvature) if self.damped else 1.0)
