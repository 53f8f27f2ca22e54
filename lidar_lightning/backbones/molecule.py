"""What diffusion models of SMILES strings share: a DiT over tokens, in the layout of the published checkpoints."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from lidar_lightning.backbones import smiles
from lidar_lightning.backbones.base import Backbone
from lidar_lightning.backbones.constraint import Constraint
from lidar_lightning.backbones.dit import DiT
from lidar_lightning.schedules import LogLinear
from lidar_lightning.solvers import TokenSolver
from lidar_lightning.utils.pretrained import HubModel


class MoleculeBackbone(Backbone, HubModel, library_name="lidar-lightning", tags=["molecules", "discrete-diffusion"]):
    """A DiT over the tokens of SMILES strings; subclasses define its noise and what it predicts.

    The names of settings and parameters, and all shapes, are those of `kuleshov-group/udlm-qm9` and
    `kuleshov-group/mdlm-owt`, so that `from_pretrained` loads checkpoints of that layout with these tokens. It also
    loads local folders, and shipped checkpoints by name. `save_pretrained` and `push_to_hub` come from huggingface_hub.

    Args:
        vocab_size: V, with 5 special tokens first.
        model_length: L, the number of tokens per sample, including <bos> and <eos>.
        hidden_dim, n_blocks, n_heads: width, depth and number of heads of the DiT.
        cond_dim: width of the noise-level embedding.
        dropout: dropout rate in training, in [0, 1).
        time_conditioning: whether the network is told the noise level; otherwise it is told a constant.
        cfg: whether the checkpoint is class-conditional; such ones are refused.
        model_type: the type that the configuration names, which must be that of the class.
        name: the name in reports and provenance.
    """

    modality = "molecule"
    published = ("cfg_num_classes",)
    model_type: ClassVar[str]
    """The type that published configurations give models of this noise."""
    schedule: LogLinear
    vocab_size: int
    lora_targets = r"backbone\.blocks\.\d+\.(attn_qkv|attn_out|mlp\.[02])"

    def __init__(
        self,
        vocab_size: int,
        model_length: int,
        hidden_dim: int,
        cond_dim: int,
        n_blocks: int,
        n_heads: int,
        dropout: float,
        time_conditioning: bool,
        cfg: bool,
        model_type: str,
        name: str,
    ):
        super().__init__()
        kind = type(self).__name__
        if model_type != self.model_type:
            raise ValueError(
                f"these are the weights of a model of type {model_type!r}, and {kind} loads those of "
                f"{self.model_type!r}: load them by {model_type.upper()}.from_pretrained"
            )
        if cfg:
            raise ValueError(
                f"class-conditional {kind} checkpoints (cfg: true) are not supported: use an unconditional one"
            )
        sizes = {"hidden_dim": hidden_dim, "cond_dim": cond_dim, "n_blocks": n_blocks, "n_heads": n_heads}
        if small := {name: size for name, size in sizes.items() if size < 1}:
            raise ValueError(f"sizes of a {kind} must be at least 1, got {small}")
        if hidden_dim % (2 * n_heads):
            raise ValueError(f"hidden_dim must be a multiple of 2 * n_heads, got {hidden_dim} and n_heads={n_heads}")
        if model_length < 3 or not 0 <= dropout < 1:
            raise ValueError(f"{kind} needs model_length >= 3 and dropout in [0, 1), got {model_length} and {dropout}")
        if vocab_size != len(smiles.VOCABULARY):
            raise ValueError(
                f"a model of {vocab_size} tokens is no model of SMILES strings, which are read by the "
                f"{len(smiles.VOCABULARY)} tokens of QM9 (yairschiff/qm9-tokenizer)"
            )
        self.name, self.vocab_size, self.model_length = name, vocab_size, model_length
        self.time_conditioning, self.schedule = time_conditioning, LogLinear()
        self.keep = None
        self.backbone = DiT(vocab_size, hidden_dim, cond_dim, n_blocks, n_heads, dropout)

    @classmethod
    def loaded(cls, name: str | Path, keep: str | Constraint | None = None, **kwargs: Any) -> Self:
        """Loads a shipped checkpoint by name, a local folder, or a hub repository (at OWNER/REPOSITORY@REVISION).

        Args:
            keep: the tokens that every sample keeps, see the property `keep`.

        Raises:
            ValueError: if it cannot be found, if its weights are damaged or of another architecture, or if it cannot
                keep these tokens.
        """
        model = cls.load(name, f"{cls.__name__} checkpoint", **kwargs)
        model.keep = keep
        return model

    @property
    def keep(self) -> Constraint | None:
        """What every sample and every lookahead keeps. Set it to a prefix, a template, a `Constraint` or None.

        Raises:
            ValueError: if the tokens are unknown or do not fit.
        """
        return self._keep

    @keep.setter
    def keep(self, given: str | Constraint | None) -> None:
        self._keep = Constraint.of(given)
        self._fixed = None if self._keep is None else self._keep.fixed(self.model_length)

    @abstractmethod
    def plain_solver(self, steps: int, fixed: Tensor | None = None) -> TokenSolver:
        """The default solver of `steps` network calls, which keeps the tokens that are fixed."""

    def solver(self, steps: int = 32) -> TokenSolver:
        """The default solver, whose name says what is kept."""
        solver = self.plain_solver(steps, self._fixed)
        if self._keep is not None:
            solver.name += f", {self._keep.told}"
        return solver

    @abstractmethod
    def log_probs(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The logarithm of the prediction (B, L, V) float32, from tokens x_t (B, L) and t (B,)."""

    @abstractmethod
    def cross_entropy(self, x0: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """-log p(x0 | x_t) in nats, summed over positions: (B,). Pre-training weights it by 1 / sigma."""

    @property
    def space(self) -> str:
        return f"smiles-{self.vocab_size}x{self.model_length}"

    def encode(self, prompts: Sequence[str]) -> None:
        """Returns None, since the model is unconditional."""

    def logits(self, x_t: Tensor, t: Tensor) -> Tensor:
        """The output of the network for tokens x_t (B, L) at t (B,): (B, L, V) float32."""
        level = self.schedule.level(t.float()) if self.time_conditioning else torch.zeros_like(t, dtype=torch.float32)
        return self.backbone(x_t, level).float()

    def predict(self, x_t: Tensor, t: Tensor, condition: None = None) -> Tensor:
        """The probabilities (B, L, V) float32 whose logarithms are `log_probs`."""
        return self.log_probs(x_t, t).exp()

    def decode(self, x0: Tensor) -> list[str]:
        """Turns tokens (B, L) into SMILES strings, valid or not; see `Constraint.fragment` for those that get a "!"."""
        strings = smiles.decode(x0)
        return strings if self._keep is None else self._keep.marked(strings)

    def x0_of(self, samples: Sequence[str]) -> Tensor:
        """Turns SMILES strings into clean tokens (n, L) int64. Raises ValueError, naming the first misfit."""
        return smiles.tokens_of(samples, self.model_length).to(self.device)

    def identities(self, x0: Tensor) -> Tensor:
        """Numbers (n,) int64 that are equal where canonical SMILES are: two spellings of a molecule are the same."""
        numbers: dict[str, int] = {}
        strings = map(smiles.canonical, self.decode(x0))
        return torch.tensor([numbers.setdefault(text, len(numbers)) for text in strings], device=x0.device)
