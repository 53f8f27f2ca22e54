"""Closed forms in plain numpy and float64, written as their definitions, against which the package is tested."""

import itertools

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Tokens = NDArray[np.int64]


def softmax(x: Array) -> Array:
    x = np.exp(x - x.max(-1, keepdims=True))
    return x / x.sum(-1, keepdims=True)


def log_sum_exp(x: Array) -> float:
    return float(x.max() + np.log(np.exp(x - x.max()).sum()))


# Continuous data


def gaussian_logits(x_t: Array, alpha: float, sigma: float, samples: Array) -> Array:
    """-|x_t - alpha x_i|^2 / (2 sigma^2), (B, n), by broadcast over (B, n, D)."""
    x_t, samples = x_t.reshape(len(x_t), -1), samples.reshape(len(samples), -1)
    return -((x_t[:, None] - alpha * samples[None]) ** 2).sum(-1) / (2 * sigma**2)


def gaussian_shift(x_t: Array, alpha: float, sigma: float, samples: Array, rewards: Array, lam: float) -> Array:
    """Sum_i (softmax(l + lambda r) - softmax(l))_i x_i, in the shape of x_t."""
    logits = gaussian_logits(x_t, alpha, sigma, samples)
    change = softmax(logits + lam * rewards) - softmax(logits)
    return (change[:, :, None] * samples.reshape(1, len(samples), -1)).sum(1).reshape(x_t.shape)


class Mixture:
    """A mixture of Gaussians of one variance, whose denoiser and whose tilt by exp(lambda <u, x>) are known.

    Args:
        means: (K, D); std: of every component; weights: (K,).
    """

    def __init__(self, means: Array, std: float, weights: Array):
        self.means, self.std, self.weights = means, std, weights / weights.sum()

    def draw(self, n: int, rng: np.random.Generator) -> Array:
        modes = rng.choice(len(self.means), n, p=self.weights)
        return self.means[modes] + self.std * rng.standard_normal((n, self.means.shape[1]))

    def denoise(self, x_t: Array, alpha: float, sigma: float) -> Array:
        """E[x0 | x_t], (B, D)."""
        variance = alpha**2 * self.std**2 + sigma**2
        gap = x_t[:, None] - alpha * self.means
        chance = softmax(np.log(self.weights) - (gap**2).sum(-1) / (2 * variance))
        return (chance[..., None] * (self.means + alpha * self.std**2 / variance * gap)).sum(1)

    def tilted(self, direction: Array, lam: float) -> "Mixture":
        """The distribution proportional to p(x) exp(lambda <direction, x>)."""
        exponent = np.log(self.weights) + lam * self.means @ direction
        return Mixture(self.means + lam * self.std**2 * direction, self.std, softmax(exponent))

    def frequencies(self, x: Array) -> Array:
        """How often each mode is the nearest one, (K,)."""
        nearest = ((x[:, None] - self.means) ** 2).sum(-1).argmin(1)
        return np.bincount(nearest, minlength=len(self.means)) / len(x)


# Tokens under uniform noise


def kernel(x_t: int, x0: int, alpha: float, vocab: int) -> float:
    """q(x_t | x0) of one token."""
    return alpha * (x_t == x0) + (1 - alpha) / vocab


def kappa(alpha: float, vocab: int) -> float:
    return float(np.log(1 + vocab * alpha / (1 - alpha)))


def lookahead_reward(x_t: Tokens, alpha: float, samples: Tokens, rewards: Array, lam: float, vocab: int) -> float:
    """log Sum_i w_i exp(lambda r_i), w = softmax(kappa * matches), of one sequence x_t (L,)."""
    logits = kappa(alpha, vocab) * (samples == x_t).sum(1)
    return log_sum_exp(logits + lam * rewards) - log_sum_exp(logits.astype(float))


def log_ratio(x_t: Tokens, alpha: float, samples: Tokens, rewards: Array, lam: float, vocab: int) -> Array:
    """Change of the lookahead reward when token l is set to v: (B, L, V)."""
    out = np.zeros((*x_t.shape, vocab))
    for b, row in enumerate(x_t):
        before = lookahead_reward(row, alpha, samples, rewards, lam, vocab)
        for k, v in itertools.product(range(len(row)), range(vocab)):
            edited = row.copy()
            edited[k] = v
            out[b, k, v] = lookahead_reward(edited, alpha, samples, rewards, lam, vocab) - before
    return out


def leave_one_out(x_t: Tokens, alpha: float, samples: Tokens, prior: Array, vocab: int) -> Array:
    """Sum_i w_i^{-l} 1[x_i^l = v], w_i^{-l} proportional to prior_i prod_{m != l} q(x_t^m | x_i^m): (B, L, V)."""
    likelihood = alpha * (x_t[:, None] == samples) + (1 - alpha) / vocab
    out = np.zeros((*x_t.shape, vocab))
    for k in range(x_t.shape[1]):
        others = prior * np.delete(likelihood, k, axis=2).prod(2)
        out[:, k] = others @ np.eye(vocab)[samples[:, k]]
    return out / out.sum(-1, keepdims=True)


def udlm_posterior(x: Array, x_t: Tokens, alpha_t: float, alpha_s: float) -> Array:
    """q(x_s | x_t, x) as published (arXiv 2412.10193, eq. 14), for a prediction x (B, L, V)."""
    vocab = x.shape[-1]
    z = np.eye(vocab)[x_t]
    a = alpha_t / alpha_s
    top = vocab * alpha_t * x * z + (a - alpha_t) * z + (alpha_s - alpha_t) * x + (1 - a) * (1 - alpha_s) / vocab
    return top / (vocab * alpha_t * (x * z).sum(-1, keepdims=True) + 1 - alpha_t)


def udlm_nelbo(x: Array, x_t: Tokens, x0: Tokens, alpha: Array, slope: float) -> Array:
    """The integrand of the NELBO as published (arXiv 2412.10193, eq. 18), by explicit sums: (B,)."""
    batch, length, vocab = x.shape
    total = np.zeros(batch)
    for b, k in itertools.product(range(batch), range(length)):
        clean = vocab * alpha[b] * np.eye(vocab)[x0[b, k]] + 1 - alpha[b]
        model = vocab * alpha[b] * x[b, k] + 1 - alpha[b]
        i = x_t[b, k]
        inner = sum(clean[j] / clean[i] * np.log(model[i] * clean[j] / (model[j] * clean[i])) for j in range(vocab))
        total[b] += slope / (vocab * alpha[b]) * (vocab / clean[i] - vocab / model[i] - inner)
    return total


def every_sequence(length: int, vocab: int) -> Tokens:
    """All V^L sequences, in the order of their base-V numbers."""
    return np.array(list(itertools.product(range(vocab), repeat=length)))


def corruption(alpha: float, states: Tokens, vocab: int) -> Array:
    """q(x_t | x0) between all states, (from x0, to x_t)."""
    return np.array(
        [[np.prod([kernel(j, i, alpha, vocab) for i, j in zip(a, b, strict=True)]) for b in states] for a in states]
    )


def total_variation(p: Array, q: Array) -> float:
    return float(abs(p - q).sum() / 2)
