"""Muon for the hidden matrices of a transformer, AdamW for everything else, as one optimizer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer


class MuonAdamW(Optimizer):
    """torch's Muon (Jordan et al., 2024) on `matrices` and AdamW on `others`, stepped and saved together.

    Args:
        matrices: two-dimensional hidden weights.
        others: embeddings, gains, biases, modulation and output layers.
        lr: of both; Muon's update is rescaled to the root mean square of AdamW's, so that they share it.
    """

    def __init__(self, matrices: Iterable[nn.Parameter], others: Iterable[nn.Parameter], lr: float):
        self.parts = (
            Muon(list(matrices), lr=lr, weight_decay=0.0, adjust_lr_fn="match_rms_adamw"),
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
