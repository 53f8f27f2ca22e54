"""UDLM: diffusion of SMILES strings under uniform token noise (Schiff et al., arXiv 2412.10193)."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.backbones.constraint import Constraint
from lidar_lightning.backbones.molecule import MoleculeBackbone
from lidar_lightning.losses.udlm import nelbo, posterior_cross_entropy
from lidar_lightning.solvers import Ancestral
from lidar_lightning.utils.seeding import Generators


class UDLM(MoleculeBackbone):
    """A DiT that predicts the leave-one-out posterior p(x0^l | x_t without l) of every token.

    `from_pretrained` loads `kuleshov-group/udlm-qm9`, folders of that layout and the shipped "udlm-qm9-small".

    Args:
        redraw: a setting of the default solver, see `Ancestral`; 0, as published, redraws nothing.
        vocab_size, model_length, hidden_dim, cond_dim, n_blocks, n_heads, dropout: see `MoleculeBackbone`.
        time_conditioning, cfg, model_type, name: see `MoleculeBackbone`.
    """

    model_type = "udlm"

    def __init__(
        self,
        vocab_size: int = 35,
        model_length: int = 32,
        hidden_dim: int = 768,
        cond_dim: int = 128,
        n_blocks: int = 12,
        n_heads: int = 12,
        dropout: float = 0.1,
        time_conditioning: bool = True,
        cfg: bool = False,
        redraw: float = 0.0,
        model_type: str = "udlm",
        name: str = "udlm",
    ):
        super().__init__(
            vocab_size, model_length, hidden_dim, cond_dim, n_blocks, n_heads, dropout, time_conditioning, cfg,
            model_type, name,
        )  # fmt: skip
        self.redraw = redraw

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, keep: str | Constraint | None = None, **kwargs: Any
    ) -> "UDLM":
        """See `MoleculeBackbone.loaded`. It is defined here so that configurations know the type that it returns."""
        return cls.loaded(pretrained_model_name_or_path, keep, **kwargs)

    def prior(self, generators: Generators) -> Tensor:
        """Uniformly drawn tokens (B, L) int64."""
        return generators.randint(self.vocab_size, self.model_length)

    def log_probs(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The log of the leave-one-out posterior (B, L, V) float32, from tokens x_t (B, L) and t (B,)."""
        return self.logits(x_t, t).log_softmax(-1)

    def plain_solver(self, steps: int, fixed: Tensor | None = None) -> Ancestral:
        return Ancestral(self.schedule, steps, redraw=self.redraw, fixed=fixed)

    def corrupt(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draws each token of x0 (B, L) anew, uniformly, with probability sigma(t); t is (B,)."""
        sigma = self.schedule(t)[1][:, None]
        drawn = torch.rand(x0.shape, generator=generator, device=x0.device) < sigma
        noise = torch.randint(self.vocab_size, x0.shape, generator=generator, device=x0.device)
        return torch.where(drawn, noise, x0)

    def error(self, x0: Tensor, x_t: Tensor, t: Tensor, condition: None = None) -> Tensor:
        """One draw of the NELBO in nats per sequence: (B,)."""
        return nelbo(self.log_probs(x_t, t), x_t, x0, self.schedule(t)[0], self.schedule.slope())

    def cross_entropy(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """-log p(x0 | x_t) in nats, summed over positions: (B,)."""
        return posterior_cross_entropy(self.log_probs(x_t, t), x_t, x0, self.schedule(t)[0])
