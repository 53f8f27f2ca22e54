"""Laws of the 64 states of the exact token model, and of draws from them, by enumeration."""

import numpy as np

from tests import reference
from tests.exact import (
    DATA,
    LENGTH,
    SCORES,
    STATES,
    TABLE,
    TOKENS,
    VOCAB,
    large,
    task,
    total_variation,
)

REWARD = SCORES.astype(np.float32).astype(float)


def product(tokens):
    """Probabilities (64, L, V) of tokens to those of states (64, 64)."""
    return np.prod([tokens[:, place][:, STATES[:, place]] for place in range(LENGTH)], axis=0)


def alpha(t):
    return 1 - (1 - 1e-3) * t


def matrix(t, s):
    """One step of the solver from t to s, as probabilities (64, 64)."""
    x0_hat = reference.leave_one_out(STATES, alpha(t), STATES, DATA, VOCAB)
    return product(reference.udlm_posterior(x0_hat, STATES, alpha(t), alpha(s)))


class Chain:
    """The solver's steps: tokens (64, L, V), matrices (64, 64) and values of all states at each time."""

    def __init__(self, steps, power=1.0):
        times = (np.linspace(1, 0, steps + 1) ** power).clip(1e-5)
        self.steps, self.tokens, self.values = steps, [], []
        for t, s in zip(times, times[1:], strict=False):
            x0_hat = reference.leave_one_out(STATES, alpha(t), STATES, DATA, VOCAB)
            self.tokens.append(reference.udlm_posterior(x0_hat, STATES, alpha(t), alpha(s)))
            guess = reference.udlm_posterior(x0_hat, STATES, alpha(t), 1.0).argmax(-1)
            self.values.append(REWARD[guess @ VOCAB ** np.arange(LENGTH)[::-1]])
        self.values.append(REWARD)
        self.matrices = [product(tokens) for tokens in self.tokens]

    def law(self, matrices=None):
        """Of the last state, from uniform noise."""
        law = np.full(64, 1 / 64)
        for matrix in matrices or self.matrices:
            law = law @ matrix
        return law

    def soft_values(self):
        """log E[exp(r(x0)) | x_t] of all states at each time."""
        values = [np.exp(REWARD)]
        for matrix in self.matrices[::-1]:
            values.insert(0, matrix @ values[0])
        return np.log(values)


def best_of(law, values, n):
    """The law of the best of n draws: P(max <= c) = P(value <= c)^n; equal values share it as they share the law."""
    below, mass = (np.array([law[compare(values, v)].sum() for v in values]) for compare in (np.less, np.equal))
    top = (below + mass) ** n - below**n
    return np.divide(law * top, mass, out=np.zeros_like(law), where=mass > 0)


def one_of_two(law, values):
    """The law of one of two draws, picked in proportion to exp(value)."""
    return 2 * law * (law / (1 + np.exp(values - values[:, None]))).sum(1)


def tilt(law, values):
    return law * np.exp(values) / (law @ np.exp(values))


def noise(law, count, draws=300):
    """Mean and standard deviation of the distance between a law and `count` draws from it."""
    counts = np.random.default_rng(0).multinomial(count, law / law.sum(), draws)
    distances = 0.5 * abs(counts / count - law).sum(1)
    return distances.mean(), distances.std()


def has_law(x, law):
    """Whether samples x are as near a law as draws from it are."""
    mean, std = noise(law, len(x))
    return total_variation(TOKENS.law(x), law) < mean + 4 * std


CHAIN = Chain(6)


def tokens_task(steps=6, **settings):
    return task(TOKENS, TABLE, 1.0, steps, **settings)


def many_tokens(steps=6, **settings):
    """To draw thousands from one stream, where it is the law that is asked for."""
    return large(TOKENS, TABLE, 1.0, steps, **settings)
