"""Absorbing noise with everything known: L = 3 tokens of V = 4 and a mask, all 125 noised states, and their laws."""

import itertools

import numpy as np
import torch

from lidar_lightning.schedules import LogLinear
from lidar_lightning.solvers import Unmasking
from tests import reference
from tests.exact import DATA, LENGTH, STATES, VOCAB, Exact, Table

MASK = VOCAB
"""One token more than the data have."""
NOISED = np.array(list(itertools.product(range(VOCAB + 1), repeat=LENGTH)))
POWERS = (VOCAB + 1) ** np.arange(LENGTH)[::-1]
CLEAN = STATES @ POWERS
"""Places of the 64 clean states among the 125."""


def posterior(x_t, samples, prior):
    """p(x0^l = v | revealed tokens) by Bayes' rule over all samples: (B, L, V + 1); 0 for rows that cannot be."""
    agree = ((x_t[:, None] == samples) | (x_t[:, None] == MASK)).all(2) * prior
    table = np.einsum("bi,ilv->blv", agree, np.eye(VOCAB + 1)[samples])
    return table / np.maximum(table.sum(-1, keepdims=True), 1e-300)


class ExactMasks(Exact):
    """p(x0^l | revealed tokens) of a distribution over all V^L sequences, by enumeration."""

    name, mask, vocab_size = "masks", MASK, VOCAB + 1

    def __init__(self, data):
        super().__init__()
        self.data, self.schedule, self.table = data, LogLinear(), posterior(NOISED, STATES, data)

    @property
    def space(self):
        return f"masks-{LENGTH}"

    def fingerprint(self):
        return "exact"

    def prior(self, generators):
        return torch.full((len(generators), LENGTH), MASK)

    def predict(self, x_t, t, condition):
        return torch.from_numpy(self.table[x_t.numpy() @ POWERS])

    def solver(self, steps):
        return Unmasking(self.schedule, steps, MASK)

    def law(self, x):
        """How often each clean state occurs among x (B, L)."""
        return np.bincount(x.numpy() @ POWERS, minlength=len(NOISED))[CLEAN] / len(x)


def product(tokens):
    """Probabilities (125, L, V + 1) of tokens to those of states (125, 125)."""
    return np.prod([tokens[:, place][:, NOISED[:, place]] for place in range(LENGTH)], axis=0)


def sampler_law(model, steps, guidance=None, law=None, place=0):
    """The exact law of the 64 states in which the loop ends, from masks or from a law (125,) at the solver's place."""
    solver, x = model.solver(steps), torch.from_numpy(NOISED)
    law = np.eye(len(NOISED))[-1] if law is None else law
    times = solver.times.tolist()[place:]
    for t, s in zip(times, times[1:], strict=False):
        x0_hat = model.predict(x, torch.tensor([t]), None)
        # Noised states that no data have are never reached.
        x0_hat = torch.where(x0_hat.sum(-1, keepdim=True) > 0, x0_hat, 1 / (VOCAB + 1))
        if guidance is not None:
            x0_hat = guidance(x, t, s, x0_hat)
        law = law @ product(solver.posterior(x0_hat, x, t, s).numpy())
    return law[CLEAN]


MODEL = ExactMasks(DATA)
SCORES = np.random.default_rng(6).standard_normal(len(STATES))
TILTED = DATA * np.exp(SCORES) / (DATA * np.exp(SCORES)).sum()
TABLE = Table(SCORES, VOCAB, LENGTH)
TV = reference.total_variation
