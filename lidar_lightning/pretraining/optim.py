"""One optimizer of Muon for a network's hidden matrices and AdamW for everything else, and its learning rate."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer
from torch.optim.lr_scheduler import LambdaLR


class FoldedMuon(Muon):
    """torch's Muon on weights of two or more dimensions: a kernel (out, in, h, w) is the matrix (out, in * h * w).

    Raises:
        ValueError: if a weight has fewer than two dimensions.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float):
        weights = list(params)
        flat = [tuple(weight.shape) for weight in weights if weight.ndim < 2]
        if flat:
            raise ValueError(f"Muon takes weights of two or more dimensions, got one of shape {flat[0]}")
        settings = Muon([nn.Parameter(torch.empty(1, 1))], lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
        Optimizer.__init__(self, weights, settings.defaults)

    def _init_group(
        self, group: Any, params_with_grad: list[Tensor], grads: list[Tensor], muon_momentum_bufs: list[Tensor]
    ) -> bool:
        for weight in group["params"]:
            if weight.grad is not None:
                # A view: it raises RuntimeError if the weight is not laid out row by row, rather than update a copy.
                params_with_grad.append(weight.view(len(weight), -1))
                grads.append(weight.grad.flatten(1))
                state = self.state[weight]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(grads[-1])
                muon_momentum_bufs.append(state["momentum_buffer"])
        return False


class MuonAdamW(Optimizer):
    """torch's Muon (Jordan et al., 2024) on `matrices` and AdamW on `others`, stepped and saved together.

    Args:
        matrices: hidden weights of two dimensions, or kernels of convolutions.
        others: embeddings, gains, biases, modulation and output layers.
        lr: learning rate of both; Muon's update is rescaled to the root mean square of AdamW's, so that they share it.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], others: Iterable[nn.Parameter], lr: float):
        self.parts = (
            FoldedMuon(matrices, lr),
            AdamW(list(others), lr=lr, betas=(0.9, 0.98), weight_decay=0.0),
        )
        super().__init__([group for part in self.parts for group in part.param_groups], {"lr": lr})
        # The groups are shared, so that a learning-rate schedule set here reaches the parts.
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def check_fractions(warmup_fraction: float, decay: float) -> None:
    """Raises ValueError unless the two fractions are at least 0 and add up to at most 1."""
    if not 0 <= warmup_fraction <= 1 - decay <= 1:
        raise ValueError(
            "warmup_fraction and decay are fractions of one run: each must be at least 0 and their sum at most 1, "
            f"got {warmup_fraction} and {decay}"
        )


def rise_and_fall(optimizer: Optimizer, total: int, warmup_fraction: float, decay: float) -> LambdaLR:
    """A learning rate that rises from zero, stays constant, and falls to zero, over `total` steps.

    It rises over the first `warmup_fraction` of the steps and falls over the last `decay` of them.

    Since it is constant in between, a run can be resumed from before its decay with more steps.

    Raises:
        ValueError: unless the two fractions are at least 0 and add up to at most 1.
    """
    check_fractions(warmup_fraction, decay)

    def factor(step: int) -> float:
        done = step / total
        rise = done / warmup_fraction if warmup_fraction else 1.0
        fall = (1 - done) / decay if decay else 1.0
        return min(1.0, max(rise, 1e-3), max(fall, 0.0))

    return LambdaLR(optimizer, factor)
