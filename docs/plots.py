"""Draws docs/images/settings.svg, what each setting of LiDAR does in one dimension: `python docs/plots.py`.

The model is a mixture of two Gaussians, N(-1.5, 0.5) and, rarer, N(1.5, 0.5), known exactly; the reward is x.
"""

import math
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import torch
from torch import Tensor

from lidar_lightning.functional import lidar_shift, temperature_for_ess

MEANS, SHARES, SPREAD, COUNT, STEPS = torch.tensor([-1.5, 1.5]), torch.tensor([0.75, 0.25]), 0.5, 3_000, 40
GRID = torch.linspace(-4, 4.5, 400)


def denoise(x: Tensor, alpha: float, sigma: float) -> Tensor:
    """E[x0 | x_t] of the mixture, for x (B, 1)."""
    variance = (alpha * SPREAD) ** 2 + sigma**2
    weights = torch.softmax(SHARES.log() - (x - alpha * MEANS) ** 2 / (2 * variance), 1)
    each = MEANS + alpha * SPREAD**2 / variance * (x - alpha * MEANS)
    return (weights * each).sum(1, keepdim=True)


def draw(generator: torch.Generator, n: int = 400, ess: float = 0.3, scale: float = 1.0, stop: float = 0.0,
         restart: float = 1.0) -> Tensor:  # fmt: skip
    """COUNT samples (COUNT,) guided by a bank of n exact ones; scale 0 is the plain model."""
    picks = torch.multinomial(SHARES, n, replacement=True, generator=generator)
    bank = (MEANS[picks] + SPREAD * torch.randn(n, generator=generator))[:, None]
    rewards = bank[:, 0]
    temperature = temperature_for_ess(rewards, ess)
    times = [t for t in torch.linspace(1, 0, STEPS + 1).tolist() if t <= restart]
    x = torch.randn(COUNT, 1, generator=generator)
    if restart < 1:
        chosen = torch.multinomial(
            torch.softmax(temperature * rewards, 0), COUNT, replacement=True, generator=generator
        )
        x = math.cos(math.pi / 2 * times[0]) * bank[chosen] + math.sin(math.pi / 2 * times[0]) * x
    for t, s in zip(times, times[1:], strict=False):
        (alpha, sigma), (alpha_s, sigma_s) = ((math.cos(math.pi / 2 * u), math.sin(math.pi / 2 * u)) for u in (t, s))
        clean = denoise(x, alpha, sigma)
        if scale and t > stop:
            clean = clean + scale * lidar_shift(x, alpha, sigma, bank, rewards, temperature)
        ratio = 1 - (sigma_s * alpha / (sigma * alpha_s)) ** 2  # the steps of DDPM
        noise = sigma_s * math.sqrt(max(ratio, 0)) * torch.randn(x.shape, generator=generator)
        x = alpha_s * clean + math.sqrt(max(sigma_s**2 * (1 - ratio), 0)) * (x - alpha * clean) / sigma + noise
    return x[:, 0]


def density(x: Tensor) -> Tensor:
    """A histogram of samples on GRID, smoothed a little."""
    kernel = torch.exp(-((GRID[:, None] - x[None]) ** 2) / (2 * 0.12**2))
    return kernel.mean(1) / (0.12 * math.sqrt(2 * math.pi))


PANELS = {
    "ess (λ): how sharply": ("ess", [1.0, 0.3, 0.05, 0.01], {}),
    "n: size of the bank (ess 0.3)": ("n", [4, 20, 100, 1000], {}),
    "scale: strength (ess 0.3)": ("scale", [0.0, 0.5, 1.0, 2.0], {}),
    "stop: guide while t > stop": ("stop", [0.0, 0.4, 0.7, 0.9], {}),
    "restart: from noised members (n 20)": ("restart", [0.1, 0.4, 0.7, 1.0], {"n": 20}),
}


def main() -> None:
    """Draws all panels."""
    figure, axes = plt.subplots(2, 3, figsize=(12, 6), sharex=True)
    plain = sum(
        p * torch.distributions.Normal(m, SPREAD).log_prob(GRID).exp() for p, m in zip(SHARES, MEANS, strict=True)
    )
    for axis, (title, (name, values, others)) in zip(axes.flat, PANELS.items(), strict=False):
        axis.fill_between(GRID, plain, color="0.9", label="the model")
        for place, value in enumerate(values):
            x = draw(torch.Generator().manual_seed(0), **{name: value, **others})
            axis.plot(GRID, density(x), color=plt.cm.viridis(0.9 * place / 3), label=f"{name} {value:g}")
        axis.set_title(title, fontsize=11)
    axis = axes.flat[5]
    axis.fill_between(GRID, plain, color="0.9", label="the model")
    x = draw(torch.Generator().manual_seed(0), ess=0.3)
    for place, k in enumerate((1, 2, 4, 8)):
        best = x[: COUNT // k * k].view(-1, k).max(1).values
        axis.plot(GRID, density(best), color=plt.cm.viridis(0.9 * place / 3), label=f"candidates {k}")
    axis.set_title("candidates: the best of k is kept", fontsize=11)
    for axis in axes.flat:
        axis.legend(fontsize=8, frameon=False)
        axis.set_yticks([])
        axis.spines[["top", "right", "left"]].set_visible(False)
    figure.tight_layout()
    plt.rcParams["svg.hashsalt"] = "lidar"
    figure.savefig(Path(__file__).parent / "images" / "settings.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
