"""UDLM: diffusion of SMILES strings under uniform token noise (Schiff et al., arXiv 2412.10193)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import PyTorchModelHubMixin
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError
from safetensors import SafetensorError
from torch import Tensor

from lidar_lightning.assets import asset_path
from lidar_lightning.backbones import smiles
from lidar_lightning.backbones.base import Backbone
from lidar_lightning.backbones.dit import DiT
from lidar_lightning.losses.udlm import nelbo
from lidar_lightning.schedules import LogLinear
from lidar_lightning.seeding import Generators
from lidar_lightning.solvers import Ancestral


class UDLM(Backbone, PyTorchModelHubMixin, library_name="lidar-lightning", tags=["molecules", "discrete-diffusion"]):
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
        name: in reports and provenance.
    """

    modality = "molecule"
    schedule: LogLinear
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
        name: str = "udlm",
    ):
        super().__init__()
        if cfg:
            raise ValueError(
                "class-conditional UDLM checkpoints (cfg: true) are not supported: use an unconditional one"
            )
        if vocab_size < len(smiles.VOCABULARY):
            raise ValueError(f"vocab_size {vocab_size} is smaller than the {len(smiles.VOCABULARY)} tokens of QM9")
        self.name, self.vocab_size, self.model_length = name, vocab_size, model_length
        self.time_conditioning = time_conditioning
        self.schedule = LogLinear()
        self.backbone = DiT(vocab_size, hidden_dim, cond_dim, n_blocks, n_heads, dropout)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **kwargs: Any) -> "UDLM":
        """Loads a shipped checkpoint by name, a local folder, or a hub repository.

        Raises:
            ValueError: if it cannot be found, or its weights are damaged or of another architecture.
        """
        source = asset_path(str(pretrained_model_name_or_path)) or pretrained_model_name_or_path
        try:
            model = super().from_pretrained(source, strict=True, **kwargs)
        except (LocalEntryNotFoundError, EntryNotFoundError, HfHubHTTPError, OSError) as error:
            raise ValueError(
                f"no UDLM checkpoint at {str(pretrained_model_name_or_path)!r}: it is neither a shipped name, a folder "
                f"with config.json and model.safetensors, nor a hub repository within reach ({error})"
            ) from error
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"the weights at {str(source)!r} do not fit this architecture: {error}") from error
        return model

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

    def encode_samples(self, samples: Sequence[str]) -> Tensor:
        """SMILES strings to clean tokens (n, L) int64. Raises ValueError naming one that does not fit."""
        return smiles.encode(samples, self.model_length).to(self.device)

    def solver(self, steps: int = 32) -> Ancestral:
        return Ancestral(self.schedule, steps)

    def corrupt(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Each token of x0 (B, L) drawn anew, uniformly, with probability sigma(t); t is (B,)."""
        sigma = self.schedule(t)[1][:, None]
        drawn = torch.rand(x0.shape, generator=generator, device=x0.device) < sigma
        noise = torch.randint(self.vocab_size, x0.shape, generator=generator, device=x0.device)
        return torch.where(drawn, noise, x0)

    def error(self, x0: Tensor, x_t: Tensor, t: Tensor, condition: None = None) -> Tensor:
        """One draw of the NELBO in nats per sequence: (B,)."""
        return nelbo(self.log_probs(x_t, t), x_t, x0, self.schedule(t)[0], self.schedule.slope())
