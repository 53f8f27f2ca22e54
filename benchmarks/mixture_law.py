"""The rewarded law of the mixture benchmark, in closed form."""

import math

from torch import Tensor

from tests.exact import FIVE, ExactMixture, Linear, Quadratic

LAMBDA, STEPS = 0.2, 40
CENTRE = FIVE.means[0]
QUADRATIC, LINEAR = Quadratic(CENTRE), Linear(2 * CENTRE)
SPREAD = (FIVE.means.square().sum(1).mean() / 2 + FIVE.std**2).sqrt().item()
"""Standard deviation of all the data, per coordinate: what the damping of UG and DPS assumes."""


def rewarded(reward: Linear | Quadratic) -> ExactMixture:
    """p(x) exp(lambda r(x)): a mixture as well, whose means have moved."""
    if isinstance(reward, Linear):
        means = FIVE.means + LAMBDA * FIVE.std**2 * reward.direction
        return ExactMixture(means, FIVE.std, (LAMBDA * FIVE.means @ reward.direction).softmax(0))
    pull = 1 + 2 * LAMBDA * FIVE.std**2
    log_weights = -LAMBDA / pull * (FIVE.means - reward.centre).square().sum(1)
    means = (FIVE.means + (pull - 1) * reward.centre) / pull
    return ExactMixture(means, FIVE.std / math.sqrt(pull), log_weights.softmax(0))


def expected(reward: Linear | Quadratic) -> float:
    """E[r] under p(x) exp(lambda r(x))."""
    target = rewarded(reward)
    at_means = reward(target.means, [])
    spread = 0.0 if isinstance(reward, Linear) else target.means.shape[1] * target.std**2
    return (target.weights @ (at_means - spread)).item()


def log_density(model: ExactMixture, x_t: Tensor, t: Tensor) -> Tensor:
    """Of x_t (B, 2) at times t (B,), up to a constant."""
    alpha, sigma = model.schedule(t)
    variance = (alpha * model.std).square() + sigma.square()
    squares = (x_t[:, None] - alpha[:, None, None] * model.means).square().sum(-1)
    return (model.weights.log() - squares / (2 * variance[:, None])).logsumexp(1) - variance.log()
