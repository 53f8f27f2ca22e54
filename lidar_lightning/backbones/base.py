"""What every model is here: a denoiser that predicts clean data from noised data."""

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
        mask: the token that stands for noise, of a model of absorbing noise; None for uniform noise.
    """

    modality: ClassVar[str]
    schedule: Schedule
    name: str
    vocab_size: int | None = None
    mask: int | None = None
    lora_targets: ClassVar[str]
    """Regular expression of the names of the layers that `adapters.add_lora` adapts."""

    @abstractmethod
    def encode(self, prompts: Sequence[str]) -> Any:
        """Prompts to the condition that `predict` takes, one row per prompt; None for an unconditional model."""

    def told(self, prompts: Sequence[str]) -> Any:
        """Prompts to the condition that `error` takes, one row per prompt."""
        return self.encode(prompts)

    @abstractmethod
    def prior(self, generators: Generators) -> Tensor:
        """Pure noise x_1, one sample per generator: (B, *S)."""

    @abstractmethod
    def predict(self, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        """The clean prediction x0_hat (B, *S) (for tokens: probabilities (B, L, V)) from x_t (B, *S) and t (B,)."""

    @abstractmethod
    def decode(self, x0: Tensor) -> Any:
        """Clean samples (B, *S) to what rewards score: a list of SMILES, or pixels."""

    @abstractmethod
    def x0_of(self, samples: Any) -> Tensor:
        """The inverse of `decode`: what rewards score to clean samples (B, *S)."""

    def identities(self, x0: Tensor) -> Tensor:
        """Which clean samples (n, *S) are one and the same thing: equal numbers (n,) int64. Here equal samples are."""
        return x0.flatten(1).unique(dim=0, return_inverse=True)[1]

    @abstractmethod
    def solver(self, steps: int) -> Solver:
        """The default solver of this model with `steps` network calls."""

    def random_solver(self, steps: int) -> RandomSolver:
        """A solver of `steps` network calls whose steps are draws from a known law: what samplers compare on.

        Raises:
            ValueError: if the default solver is no such one and the model has no other.
        """
        solver = self.solver(steps)
        if not hasattr(solver, "transition"):
            raise ValueError(f"{type(self).__name__} has no solver with random steps of a known law")
        return cast(RandomSolver, solver)

    @abstractmethod
    def corrupt(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """x_t from x0 (B, *S) at t (B,)."""

    @abstractmethod
    def error(self, x0: Tensor, x_t: Tensor, t: Tensor, condition: Any) -> Tensor:
        """Denoising error per sample (B,), the e of the DPO loss: for tokens one draw of the NELBO in nats."""

    @property
    @abstractmethod
    def space(self) -> str:
        """Identifies the space of clean samples: banks of one space do not fit models of another."""

    def active(self) -> AbstractContextManager[None]:
        """Within it the network is as this backbone uses it; several backbones may share one network."""
        return nullcontext()

    def frozen_copy(self) -> Self:
        """A second model with the same weights, not trained."""
        return copy.deepcopy(self).requires_grad_(False).eval()

    def checkpoint_gradients(self) -> None:
        """Has the network compute its activations again in the backward pass: less memory for more time.

        Raises:
            ValueError: if it cannot.
        """
        network = getattr(self, "network", None)
        if not getattr(network, "_supports_gradient_checkpointing", False):
            kind = type(network or self).__name__
            raise ValueError(f"a {kind} has no gradient checkpointing: leave checkpointing out")
        cast(Any, network).enable_gradient_checkpointing()

    def export_lora(self, folder: str | Path, write: bool = True) -> None:
        """Writes trained adapters in the form that the model's own library loads.

        Of processes that share the weights all must call it together, and one of them has `write`.
        """
        raise ValueError(f"{type(self).__name__} has no other library to export adapters to: use the checkpoint")

    @property
    def evaluations(self) -> int:
        """Of the network in one `predict` of one sample: 2 where classifier-free guidance runs it twice."""
        return 1

    def sample_bytes(self) -> int:
        """Bytes, at least, that a clean sample takes, with what belongs to it."""
        noise = self.prior(Generators([0], self.device))
        return noise.numel() * noise.element_size() + ROW

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def origin(self) -> str:
        """What adapters were trained on, to be asked before any are added: here the weights themselves."""
        return self.fingerprint()

    def fingerprint(self) -> str:
        """Hash of the weights that are in force: equal weights give equal banks."""
        return fingerprint(self.name, self.state_dict())


def clean_samples(backbone: Backbone, given: Any) -> Tensor:
    """Given samples (n, *S) as a model's own, on the CPU. Raises ValueError unless they could be."""
    x = torch.as_tensor(given).detach().cpu()
    own = backbone.prior(Generators([0], backbone.device)).cpu()
    if x.ndim != own.ndim or x.shape[1:] != own.shape[1:]:
        shape = ", ".join(map(str, own.shape[1:]))
        raise ValueError(f"{backbone.name} works on samples (n, {shape}), got {tuple(x.shape)}")
    if own.is_floating_point() != x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
        raise ValueError(f"{backbone.name} works on {own.dtype}, got samples of {x.dtype}")
    if backbone.vocab_size is not None and len(x) and not 0 <= x.min() <= x.max() < backbone.vocab_size:
        raise ValueError(f"{backbone.name} has tokens 0 to {backbone.vocab_size - 1}, got {x.min()} to {x.max()}")
    if not x.isfinite().all():
        raise ValueError(f"samples must be finite, {int((~x.isfinite()).flatten(1).any(1).sum())} of {len(x)} are not")
    return x.to(own.dtype)
