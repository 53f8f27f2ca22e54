"""The interface of every model: a denoiser that predicts clean data from noised data."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import torch
from torch import Tensor, nn

from lidar_lightning.schedules import Schedule
from lidar_lightning.solvers import RandomSolver, Solver
from lidar_lightning.utils.seeding import Generators
from lidar_lightning.utils.sizes import ROW
from lidar_lightning.utils.weights import fingerprint


class Backbone(nn.Module, ABC):
    """Adapter around a generative model; its parametrisation (eps, v, flow, leave-one-out) ends here.

    Attributes:
        modality: what `decode` returns, e.g. "molecule" or "image".
        schedule: the noise schedule the model was trained with.
        name: identifies the architecture and the weights' origin in reports and in the provenance of banks.
        vocab_size: V of a model of tokens; None for continuous data.
        mask: for a model of absorbing noise, the token that stands for noise; None for uniform noise.
    """

    modality: ClassVar[str]
    schedule: Schedule
    name: str
    vocab_size: int | None = None
    mask: int | None = None
    lora_targets: ClassVar[str]
    """A regular expression that matches the names of the layers that `adapters.add_lora` adapts."""

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Any:
        """The condition of prompts that `predict` takes, one row per prompt; None for an unconditional model."""

    def told(self, prompts: Sequence[str]) -> Any:
        """The condition of prompts that `error` takes, one row per prompt."""
        return self.encode(prompts)

    @abstractmethod
    def prior(self, generators: Generators) -> Tensor:
        """Pure noise x_1, one sample per generator: (B, *S)."""

    @abstractmethod
    def predict(self, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        """The clean prediction x0_hat (B, *S) (for tokens: probabilities (B, L, V)) from x_t (B, *S) and t (B,)."""

    @abstractmethod
    def decode(self, x0: Tensor) -> Any:
        """Turns clean samples (B, *S) into what rewards score: a list of SMILES strings, or pixels."""

    @abstractmethod
    def x0_of(self, samples: Any) -> Tensor:
        """The inverse of `decode`: turns what rewards score into clean samples (B, *S)."""

    def identities(self, x0: Tensor) -> Tensor:
        """Numbers (n,) int64, equal for those of the clean samples (n, *S) that count as the same: here equal ones."""
        return x0.flatten(1).unique(dim=0, return_inverse=True)[1]

    @abstractmethod
    def solver(self, steps: int) -> Solver:
        """The default solver of this model with `steps` network calls."""

    def random_solver(self, steps: int) -> RandomSolver:
        """A solver of `steps` network calls whose steps are draws from a known law; samplers are compared on it.

        Raises:
            ValueError: if the default solver is of another kind and the model has no other solver.
        """
        solver = self.solver(steps)
        if not hasattr(solver, "transition"):
            raise ValueError(f"{type(self).__name__} has no solver with random steps of a known law")
        return cast(RandomSolver, solver)

    @abstractmethod
    def corrupt(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draws x_t (B, *S) from clean samples x0 (B, *S) at times t (B,)."""

    @abstractmethod
    def error(self, x0: Tensor, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        """The denoising error per sample (B,), the e of the DPO loss; for tokens, one draw of the NELBO in nats."""

    @property
    @abstractmethod
    def space(self) -> str:
        """Identifies the space of clean samples; a bank fits only models of its own space."""

    def active(self) -> AbstractContextManager[None]:
        """While it is active, the network is as this backbone uses it; several backbones may share one network."""
        return nullcontext()

    def frozen_copy(self) -> Self:
        """A second model with the same weights, which are not trained."""
        return copy.deepcopy(self).requires_grad_(False).eval()

    def checkpoint_gradients(self) -> None:
        """Lets the network compute its activations again in the backward pass, which saves memory and costs time.

        Raises:
            ValueError: if the network cannot do so.
        """
        network = getattr(self, "network", None)
        if not getattr(network, "_supports_gradient_checkpointing", False):
            kind = type(network or self).__name__
            raise ValueError(f"a {kind} has no gradient checkpointing: leave checkpointing out")
        cast(Any, network).enable_gradient_checkpointing()

    def export_lora(self, folder: str | Path, write: bool = True) -> None:
        """Writes trained adapters in the form that the model's own library loads.

        All processes that share the weights must call it together; only one of them sets `write`.
        """
        raise ValueError(f"{type(self).__name__} has no other library to export adapters to: use the checkpoint")

    @property
    def evaluations(self) -> int:
        """Evaluations of the network in one `predict` of one sample: 2 if classifier-free guidance runs it twice."""
        return 1

    def sample_bytes(self) -> int:
        """The least number of bytes that a clean sample takes, with what belongs to it."""
        noise = self.prior(Generators([0], self.device))
        return noise.numel() * noise.element_size() + ROW

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def origin(self) -> str:
        """Identifies what adapters are trained on: here the weights. Call it before adapters are added."""
        return self.fingerprint()

    def fingerprint(self) -> str:
        """A hash of the weights in use; models with equal weights draw equal banks."""
        return fingerprint(self.name, self.state_dict())


def clean_samples(backbone: Backbone, given: Any) -> Tensor:
    """Given samples (n, *S) as clean samples of a model, on the CPU. Raises ValueError if they cannot be that."""
    x = torch.as_tensor(given).detach().cpu()
    own = backbone.prior(Generators([0], backbone.device)).cpu()
    if x.ndim != own.ndim or x.shape[1:] != own.shape[1:]:
        shape = ", ".join(map(str, own.shape[1:]))
        raise ValueError(f"{backbone.name} takes samples (n, {shape}), got {tuple(x.shape)}")
    if own.is_floating_point() != x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise ValueError(f"{backbone.name} takes samples of {own.dtype}, got samples of {x.dtype}")
    if backbone.vocab_size is not None and len(x) and not 0 <= x.min() <= x.max() < backbone.vocab_size:
        raise ValueError(f"{backbone.name} has tokens 0 to {backbone.vocab_size - 1}, got {x.min()} to {x.max()}")
    if not x.isfinite().all():
        raise ValueError(f"samples must be finite, {int((~x.isfinite()).flatten(1).any(1).sum())} of {len(x)} are not")
    return x.to(own.dtype)
