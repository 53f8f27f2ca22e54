"""MDLM: diffusion of SMILES strings by masks, which are absorbing-state noise (Sahoo et al., arXiv 2406.07524)."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.backbones import smiles
from lidar_lightning.backbones.constraint import Constraint
from lidar_lightning.backbones.molecule import MoleculeBackbone
from lidar_lightning.losses.mdlm import masked_cross_entropy, nelbo
from lidar_lightning.solvers import Unmasking
from lidar_lightning.solvers.tokens import check_redraw
from lidar_lightning.utils.seeding import Generators


class MDLM(MoleculeBackbone):
    """A DiT that predicts every masked token from those that are revealed: p(x0^l | x_t).

    Its prediction is that of the published SUBS parametrisation: no token is predicted to be a mask, and a revealed
    token stays as it is. It does not depend on the time, so that the network needs none. `from_pretrained` loads the
    shipped "mdlm-qm9-small", and folders and hub repositories with these tokens and the layout of
    `kuleshov-group/mdlm-owt`.

    Args:
        redraw: a setting of the default solver, see `Unmasking`; 0, as published, redraws nothing. Above 0 the
            network's own prediction is used at revealed positions too, so that it needs a network that can tell how
            likely a revealed token is given all others, such as one whose training began with UDLM's weights.
        vocab_size, model_length, hidden_dim, cond_dim, n_blocks, n_heads, dropout: see `MoleculeBackbone`.
        time_conditioning, cfg, model_type, name: see `MoleculeBackbone`.
    """

    model_type = "mdlm"
    mask = smiles.MASK

    def __init__(
        self,
        vocab_size: int = 35,
        model_length: int = 32,
        hidden_dim: int = 768,
        cond_dim: int = 128,
        n_blocks: int = 12,
        n_heads: int = 12,
        dropout: float = 0.1,
        time_conditioning: bool = False,
        cfg: bool = False,
        redraw: float = 0.0,
        model_type: str = "mdlm",
        name: str = "mdlm",
    ):
        super().__init__(
            vocab_size, model_length, hidden_dim, cond_dim, n_blocks, n_heads, dropout, time_conditioning, cfg,
            model_type, name,
        )  # fmt: skip
        self.redraw = check_redraw(redraw)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, keep: str | Constraint | None = None, **kwargs: Any
    ) -> "MDLM":
        """See `MoleculeBackbone.loaded`. It is defined here so that configurations know the type that it returns."""
        return cls.loaded(pretrained_model_name_or_path, keep, **kwargs)

    def prior(self, generators: Generators) -> Tensor:
        """Samples of masks only, (B, L) int64."""
        return torch.full((len(generators), self.model_length), self.mask, device=generators.device)

    def log_probs(self, x_t: Tensor, t: Tensor) -> Tensor:
        """log p(x0^l = v | revealed tokens of x_t) (B, L, V) float32, from tokens x_t (B, L) and t (B,)."""
        revealed = torch.where(torch.arange(self.vocab_size, device=x_t.device) == x_t[..., None], 0.0, -torch.inf)
        return torch.where((x_t == self.mask)[..., None], self.everywhere(x_t, t), revealed)

    def everywhere(self, x_t: Tensor, t: Tensor) -> Tensor:
        """As `log_probs`, but with the network's own prediction at revealed positions as well."""
        masks = torch.arange(self.vocab_size, device=x_t.device) == self.mask
        return self.logits(x_t, t).masked_fill(masks, -torch.inf).log_softmax(-1)

    def predict(self, x_t: Tensor, t: Tensor, condition: None = None) -> Tensor:
        """The prediction (B, L, V) float32: that of `log_probs`, or with redraw the network's at all positions."""
        return (self.everywhere(x_t, t) if self.redraw else self.log_probs(x_t, t)).exp()

    def plain_solver(self, steps: int, fixed: Tensor | None = None) -> Unmasking:
        return Unmasking(self.schedule, steps, self.mask, 2.0 if self.redraw else 1.0, self.redraw, fixed)

    def corrupt(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Masks each token of x0 (B, L) with probability sigma(t); t is (B,)."""
        masked = torch.rand(x0.shape, generator=generator, device=x0.device) < self.schedule(t)[1][:, None]
        return x0.masked_fill(masked, self.mask)

    def error(self, x0: Tensor, x_t: Tensor, t: Tensor, condition: None = None) -> Tensor:
        """One draw of the NELBO in nats per sequence: (B,)."""
        return nelbo(self.log_probs(x_t, t), x0, self.schedule(t)[0], self.schedule.slope())

    def cross_entropy(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """-log p(x0 | x_t) in nats, summed over masked positions: (B,)."""
        return masked_cross_entropy(self.log_probs(x_t, t), x0)
