"""A baseline in the style of REINVENT, for `benchmarks.tasks`: no package on the registry runs it offline as it is.

A recurrent prior learns the QM9 strings; the agent begins as a copy of it and is fitted to the augmented likelihood
log P_prior + sigma * score of what it samples, with experience replay (Olivecrona et al., arXiv 1704.07555). Batch,
sigma, replay and learning rate are those of PMO (Gao et al., arXiv 2206.12411); the network is smaller than theirs.
"""

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.nn import functional as F

from lidar_lightning.backbones.smiles import BOS, EOS, PAD, VOCABULARY, decode, tokens_of
from lidar_lightning.utils.files import write_atomically
from lidar_lightning.utils.smiles_io import read_smiles

LENGTH, WIDTH = 24, 256
BATCH, SIGMA, REPLAY, MEMORY, RATE = 64, 500.0, 24, 100, 5e-4


class Recurrent(nn.Module):
    """A GRU over tokens of SMILES strings."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(len(VOCABULARY), 64)
        self.gru = nn.GRU(64, WIDTH, batch_first=True)
        self.head = nn.Linear(WIDTH, len(VOCABULARY))

    def log_probs(self, x: Tensor) -> Tensor:
        """log P of each string (n,), from tokens (n, L) that begin with <bos>."""
        found = self.head(self.gru(self.embedding(x[:, :-1]))[0]).log_softmax(-1)
        return (found.gather(-1, x[:, 1:, None])[..., 0] * (x[:, 1:] != PAD)).sum(1)

    @torch.no_grad()
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """Tokens (count, L), padded after <eos>."""
        x, state = torch.full((count, LENGTH), PAD), None
        x[:, 0] = BOS
        running = torch.ones(count, dtype=torch.bool)
        for place in range(1, LENGTH):
            found, state = self.gru(self.embedding(x[:, place - 1 : place]), state)
            drawn = torch.multinomial(self.head(found[:, 0]).softmax(-1), 1, generator=generator)[:, 0]
            x[:, place] = torch.where(running, drawn, PAD)
            running &= drawn != EOS
        return x


def prior(path: Path, steps: int = 250, batch: int = 256, seed: int = 0) -> Recurrent:
    """The prior, from a file, or trained on the QM9 strings that ship and written there."""
    torch.manual_seed(seed)
    model = Recurrent()
    if not path.exists():
        strings, generator = read_smiles(), torch.Generator().manual_seed(seed)
        optimizer = torch.optim.Adam(model.parameters(), 3e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, steps)
        for _ in range(steps):
            rows = torch.randint(len(strings), (batch,), generator=generator).tolist()
            loss = -model.log_probs(tokens_of([strings[row] for row in rows], LENGTH)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        write_atomically(path, save(model.state_dict()))
    model.load_state_dict(load_file(path))
    return model


def optimise(first: Recurrent, score: Callable[[list[str]], Tensor], left: Callable[[], bool], seed: int) -> None:
    """Samples, scores and learns while there are calls left."""
    agent, generator = copy.deepcopy(first), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(agent.parameters(), RATE)
    memory, values = torch.empty(0, LENGTH, dtype=torch.int64), torch.empty(0)
    while left():
        drawn = agent.sample(BATCH, generator)
        scores = score(decode(drawn))
        picks = torch.randperm(len(memory), generator=generator)[:REPLAY]
        x, r = torch.cat((drawn, memory[picks])), torch.cat((scores, values[picks]))
        with torch.no_grad():
            augmented = first.log_probs(x) + SIGMA * r
        loss = F.mse_loss(agent.log_probs(x), augmented)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        known, places = torch.cat((memory, drawn)).unique(dim=0, return_inverse=True)
        every = torch.zeros(len(known)).scatter_(0, places, torch.cat((values, scores)))
        best = every.topk(min(MEMORY, len(known))).indices
        memory, values = known[best], every[best]
