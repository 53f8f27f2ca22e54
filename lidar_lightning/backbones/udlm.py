"""UDLM: diffusion of SMILES strings under uniform token noise (Schiff et al., arXiv 2412.10193)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.backbones import smiles
from lidar_lightning.backbones.base import Backbone
from lidar_lightning.backbones.dit import DiT
from lidar_lightning.losses.udlm import nelbo
from lidar_lightning.schedules import LogLinear
from lidar_lightning.solvers import Ancestral
from lidar_lightning.utils.pretrained import HubModel
from lidar_lightning.utils.seeding import Generators


class UDLM(Backbone, HubModel, library_name="lidar-lightning", tags=["molecules", "discrete-diffusion"]):
    """A DiT that predicts the leave-one-out posterior p(x0^l | x_t without l) of every token.

    Config names, parameter names and shapes are those of `kuleshov-group/udlm-qm9`, which `from_pretrained` loads; so
    do local folders and the names of shipped checkpoints ("udlm-qm9-small"). `save_pretrained` and `push_to_hub`
    come from huggingface_hub.

    Args:
        vocab_size: V, with 5 special tokens first.
        model_length: tokens per sample L, with <bos> and <eos>.
        hidden_dim, n_blocks, n_heads: width, depth and heads of the DiT.
        cond_dim: width of the noise-level embedding.
        dropout: in training, in [0, 1).
        time_conditioning: False feeds a constant noise level.
        cfg: class-conditional checkpoints are refused.
        redraw: of the default solver, see `Ancestral`; 0, as published, for never.
        name: in reports and provenance.
    """

    modality = "molecule"
    published = ("cfg_num_classes", "model_type")
    schedule: LogLinear
    vocab_size: int
    lora_targets = r"backbone\.blocks\.\d+\.(attn_qkv|attn_out|mlp\.[02])"

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
        name: str = "udlm",
    ):
        super().__init__()
        if cfg:
            raise ValueError(
                "class-conditional UDLM checkpoints (cfg: true) are not supported: use an unconditional one"
            )
        sizes = {"hidden_dim": hidden_dim, "cond_dim": cond_dim, "n_blocks": n_blocks, "n_heads": n_heads}
        if small := {name: size for name, size in sizes.items() if size < 1}:
            raise ValueError(f"sizes of a UDLM are at least 1, got {small}")
        if hidden_dim % (2 * n_heads):
            raise ValueError(f"hidden_dim is an even number of each of n_heads, got {hidden_dim} and {n_heads}")
        if model_length < 3 or not 0 <= dropout < 1:
            raise ValueError(f"UDLM needs model_length >= 3 and dropout in [0, 1), got {model_length} and {dropout}")
        if vocab_size < len(smiles.VOCABULARY):
            raise ValueError(f"vocab_size {vocab_size} is smaller than the {len(smiles.VOCABULARY)} tokens of QM9")
        self.name, self.vocab_size, self.model_length = name, vocab_size, model_length
        self.time_conditioning, self.redraw = time_conditioning, redraw
        self.schedule = LogLinear()
        self.backbone = DiT(vocab_size, hidden_dim, cond_dim, n_blocks, n_heads, dropout)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> "UDLM":
        """Loads a shipped checkpoint by name, a local folder, or a hub repository (at OWNER/REPOSITORY@REVISION).

        Raises:
            ValueError: if it cannot be found, or its weights are damaged or of another architecture.
        """
        return cls.load(pretrained_model_name_or_path, "UDLM checkpoint", **kwargs)

    @property
    def space(self) -> str:
        return f"smiles-{self.vocab_size}x{self.model_length}"

    def encode(self, prompts: Sequence[str]) -> None:
        """Nothing: the model is unconditional."""

    def prior(self, generators: Generators) -> Tensor:
        """Uniform tokens (B, L) int64."""
        return generators.randint(self.vocab_size, self.model_length)

    def log_probs(self, x_t: Tensor, t: Tensor) -> Tensor:
        """Log of the leave-one-out posterior (B, L, V) float32, from tokens x_t (B, L) and t (B,)."""
        level = self.schedule.level(t.float()) if self.time_conditioning else torch.zeros_like(t, dtype=torch.float32)
        return self.backbone(x_t, level).float().log_softmax(-1)

    def predict(self, x_t: Tensor, t: Tensor, condition: None = None) -> Tensor:
        """The leave-one-out posterior (B, L, V) float32."""
        return self.log_probs(x_t, t).exp()

    def decode(self, x0: Tensor) -> list[str]:
        """Tokens (B, L) to SMILES strings, valid or not."""
        return smiles.decode(x0)

    def x0_of(self, samples: Sequence[str]) -> Tensor:
        """SMILES strings to clean tokens (n, L) int64. Raises ValueError naming one that does not fit."""
        return smiles.tokens_of(samples, self.model_length).to(self.device)

    def identities(self, x0: Tensor) -> Tensor:
        """Two spellings of a molecule are one: equal numbers (n,) int64 where the canonical SMILES are equal."""
        numbers: dict[str, int] = {}
        strings = map(smiles.canonical, self.decode(x0))
        return torch.tensor([numbers.setdefault(text, len(numbers)) for text in strings], device=x0.device)

    def solver(self, steps: int = 32) -> Ancestral:
        return Ancestral(self.schedule, steps, redraw=self.redraw)

    def corrupt(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Each token of x0 (B, L) drawn anew, uniformly, with probability sigma(t); t is (B,)."""
        sigma = self.schedule(t)[1][:, None]
        drawn = torch.rand(x0.shape, generator=generator, device=x0.device) < sigma
        noise = torch.randint(self.vocab_size, x0.shape, generator=generator, device=x0.device)
        return torch.where(drawn, noise, x0)

    def error(self, x0: Tensor, x_t: Tensor, t: Tensor, condition: None = None) -> Tensor:
        """One draw of the NELBO in nats per sequence: (B,)."""
        return nelbo(self.log_probs(x_t, t), x_t, x0, self.schedule(t)[0], self.schedule.slope())
