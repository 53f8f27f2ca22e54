"""Models without a network whose every distribution is known, as tasks for samplers."""

import numpy as np
import torch

from lidar_lightning.backbones import Backbone
from lidar_lightning.rewards import Reward
from lidar_lightning.samplers.task import Task
from lidar_lightning.schedules import FlowMatching, LogLinear, VariancePreserving
from lidar_lightning.solvers import Ancestral, GaussianAncestral
from lidar_lightning.utils.seeding import stream_seed
from tests import reference

BETAS = torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)
DIFFUSION = VariancePreserving((1 - BETAS).cumprod(0))


class Exact(Backbone):
    """A backbone of plain numbers: what it decodes to is the sample itself."""

    modality = "numbers"

    @property
    def device(self):
        return torch.device("cpu")

    def encode(self, prompts):
        return None

    def decode(self, x0):
        return x0


Exact.__abstractmethods__ = frozenset()


class ExactMixture(Exact):
    """A mixture of Gaussians with one standard deviation: means (K, D), weights (K,); differentiable."""

    name = "mixture"

    def __init__(self, means, std, weights, schedule=DIFFUSION):
        super().__init__()
        self.means, self.std, self.schedule = torch.as_tensor(means).double(), std, schedule
        self.weights = torch.as_tensor(weights).double() / sum(weights)

    @property
    def space(self):
        return f"numbers-{self.means.shape[1]}"

    def fingerprint(self):
        return "exact"

    def prior(self, generators):
        return generators.randn(self.means.shape[1]).double()

    def predict(self, x_t, t, condition):
        alpha, sigma = (c[0].item() for c in self.schedule(t.double()))
        variance = alpha**2 * self.std**2 + sigma**2
        x, pull = x_t.double(), alpha * self.std**2 / variance
        # Row by row: the rounding of a matrix product depends on the number of rows, on some processors.
        products = sum(x[..., [k]] * column for k, column in enumerate(self.means.T))
        logits = self.weights.log() + alpha * (products - alpha * self.means.square().sum(1) / 2) / variance
        chances = logits.softmax(-1)
        centre = sum(chances[..., [k]] * mean for k, mean in enumerate(self.means))
        return centre + pull * (x - alpha * centre)

    def solver(self, steps):
        return GaussianAncestral(self.schedule, steps)

    def draw(self, count, seed=0):
        rng = torch.Generator().manual_seed(seed)
        modes = torch.multinomial(self.weights, count, replacement=True, generator=rng)
        noise = torch.randn(count, self.means.shape[1], generator=rng, dtype=torch.float64)
        return self.means[modes] + self.std * noise

    def frequencies(self, x, weights=None):
        nearest = (x[:, None].double() - self.means).square().sum(-1).argmin(1)
        return torch.bincount(nearest, weights, minlength=len(self.means)) / (len(x) if weights is None else 1)


class ExactTokens(Exact):
    """The leave-one-out posterior of a distribution over all V^L sequences, by enumeration."""

    name = "tokens"

    def __init__(self, states, data, vocab):
        super().__init__()
        self.states, self.data, self.vocab_size, self.schedule = states, data, vocab, LogLinear()
        self.all = reference.every_sequence(states.shape[1], vocab)
        self.tables: dict[float, np.ndarray] = {}

    @property
    def space(self):
        return f"tokens-{self.states.shape[1]}"

    def fingerprint(self):
        return "exact"

    def prior(self, generators):
        return generators.randint(self.vocab_size, self.states.shape[1])

    def predict(self, x_t, t, condition):
        alpha = self.schedule(t[:1].double())[0].item()
        if alpha not in self.tables:
            self.tables[alpha] = reference.leave_one_out(self.all, alpha, self.states, self.data, self.vocab_size)
        return torch.from_numpy(self.tables[alpha][self.places(x_t)])

    def solver(self, steps):
        return Ancestral(self.schedule, steps, power=1.0)

    def places(self, x):
        """Of x (B, L) among all sequences."""
        return x.numpy() @ self.vocab_size ** np.arange(x.shape[1])[::-1]

    def law(self, x):
        """How often each state occurs among x (B, L)."""
        return np.bincount(self.places(x), minlength=len(self.all)) / len(x)


class Linear(Reward):
    """<direction, x>."""

    name, modality, differentiable = "linear", "any", True

    def __init__(self, direction):
        self.direction = torch.as_tensor(direction).double()

    def __call__(self, samples, prompts):
        return samples.double() @ self.direction


class Quadratic(Reward):
    """-|x - centre|^2."""

    name, modality, differentiable = "quadratic", "any", True

    def __init__(self, centre):
        self.centre = torch.as_tensor(centre).double()

    def __call__(self, samples, prompts):
        return -(samples.double() - self.centre).square().sum(-1)


class Table(Reward):
    """A number for each state of `ExactTokens`."""

    name, modality = "table", "any"

    def __init__(self, values, vocab, length):
        self.values, self.powers = torch.as_tensor(values), torch.tensor([vocab**k for k in range(length)][::-1])

    def __call__(self, samples, prompts):
        return self.values[samples @ self.powers]


ANGLES = np.arange(5) * 2 * np.pi / 5
FIVE = ExactMixture(3 * np.stack([np.cos(ANGLES), np.sin(ANGLES)], 1), 0.4, np.ones(5))
"""Five modes on a circle of radius 3."""
FIVE_FLOW = ExactMixture(FIVE.means, FIVE.std, FIVE.weights, FlowMatching())


def tilted(model, reward, temperature, draws=400_000):
    """E[r] and the frequencies of the modes under p(x) exp(lambda r(x)), by exact draws with weights."""
    x = model.draw(draws, seed=1)
    value = reward(x, [])
    weights = (temperature * value).softmax(0)
    return (weights * value).sum().item(), model.frequencies(x, weights)


LENGTH, VOCAB = 3, 4
STATES = reference.every_sequence(LENGTH, VOCAB)
DATA = np.random.default_rng(5).dirichlet(np.full(64, 0.5))
SCORES = np.random.default_rng(6).standard_normal(64)
TOKENS = ExactTokens(STATES, DATA, VOCAB)
TABLE = Table(SCORES, VOCAB, LENGTH)
TOKENS_TILTED = DATA * np.exp(SCORES) / (DATA * np.exp(SCORES)).sum()


def task(model, reward, temperature=1.0, steps=40, seed=0, **settings):
    return Task(model, model.solver(steps), reward, "numbers", temperature, seed, batch_size=100_000, **settings)


class Stream:
    """One stream for all samples, in place of `Generators`: a hundred times faster where thousands are drawn."""

    def __init__(self, count, seed):
        self.count, self.stream = count, torch.Generator().manual_seed(seed)
        self.device = torch.device("cpu")

    def __len__(self):
        return self.count

    def take(self, rows):
        taken = Stream(len(rows), 0)
        taken.stream = self.stream
        return taken

    def randn(self, *shape):
        return torch.randn(self.count, *shape, generator=self.stream, dtype=torch.float64)

    def rand(self, *shape):
        return torch.rand(self.count, *shape, generator=self.stream, dtype=torch.float64)

    def randint(self, high, *shape):
        return torch.randint(high, (self.count, *shape), generator=self.stream)


def large(*args, **settings):
    """A task to draw many samples."""
    given = task(*args, **settings)
    given.batch_size = 8192
    given.generators = lambda count, purpose="sample": Stream(count, stream_seed(given.seed, purpose, 0))
    return given


def total_variation(p, q):
    return 0.5 * float(np.abs(np.asarray(p) - np.asarray(q)).sum())
