"""The learned value of SVDD-MC: what noised samples are worth, by regression on rollouts, with `trainer.fit`."""

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from lidar_lightning.modules.checkpoint_file import read_checkpoint
from lidar_lightning.modules.training import TrainingModule, positive
from lidar_lightning.samplers.task import Task
from lidar_lightning.sampling import trajectory
from lidar_lightning.utils.weights import check_finite_weights

FREQUENCIES = 8


@torch.no_grad()
def rollouts(task: Task, count: int) -> TensorDataset:
    """Plain samples of a task as rows (x_t (*S), t, lambda r(x0)): each of its `count` samples at all times but the
    first and the last, sample by sample. Its network calls are counted by the task's meter.

    Raises:
        ValueError: if there is no sample, or a single step, which passes no time in between.
    """
    steps = task.steps
    if count < 1 or len(steps) < 2:
        raise ValueError(f"collect at least 1 sample of at least 2 steps, got {count} of {len(steps)}")
    generators = task.generators(count, "rollouts")
    *between, end = trajectory(task.predict, task.solver, task.start(generators), generators)
    states = torch.stack([step.x for step in between], 1).flatten(0, 1)
    times = torch.tensor([step.s for step in between], dtype=torch.float64, device=states.device).repeat(count)
    return TensorDataset(states, times, task.value(end.x).repeat_interleave(len(between)))


class ValueModule(TrainingModule):
    """A small network v(x_t, t), fitted on batches of `rollouts`; it is the `value` of `samplers.svdd.SVDD`.

    target "soft" fits log E[exp(lambda r(x0)) | x_t], what SVDD should follow, by the loss exp(d) - d - 1 with
    d = lambda r - v, whose minimum it is; "mean" fits E[lambda r(x0) | x_t] by the squared error, as the authors do.
    Tokens (L,) are embedded; pixels and latents (C, H, W) pass two convolutions; all other shapes are flattened. The
    network is not told a prompt: for a text-to-image model it holds for the one prompt whose rollouts it was fitted on.

    Args:
        shape: *S of one sample.
        vocab_size: V of tokens; None for continuous data.
        width: number of units in each hidden layer.
        target: "soft" or "mean".
        lr: learning rate of Adam.

    Raises:
        ValueError: if the target is unknown, or a number is not above 0.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        vocab_size: int | None = None,
        width: int = 64,
        target: Literal["soft", "mean"] = "soft",
        lr: float = 1e-3,
    ):
        super().__init__()
        if target not in ("soft", "mean"):
            raise ValueError(f"target is 'soft' or 'mean', got {target!r}")
        positive(self, lr=lr, width=width, **{f"shape[{i}]": size for i, size in enumerate(shape)})
        if vocab_size is not None:
            positive(self, vocab_size=vocab_size)
        self.target, self.lr = target, lr
        self.settings = {"shape": shape, "vocab_size": vocab_size, "width": width, "target": target, "lr": lr}
        if vocab_size is not None:
            layers: list[nn.Module] = [nn.Embedding(vocab_size, width)]
        elif len(shape) == 3:
            layers = [nn.Conv2d(shape[0], width, 3, 2, 1), nn.SiLU(), nn.Conv2d(width, width, 3, 2, 1), nn.SiLU()]
        else:
            layers = []
        self.body = nn.Sequential(*layers, nn.Flatten())
        empty = torch.zeros(1, *shape, dtype=torch.float32 if vocab_size is None else torch.int64)
        features = self.body(empty).shape[1]
        self.head = nn.Sequential(
            nn.Linear(features + FREQUENCIES, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1)
        )

    @classmethod
    def from_checkpoint(cls, path: str) -> "ValueModule":
        """The module that `trainer.fit` left in a checkpoint.

        Raises:
            ValueError: if the file is missing or is no such checkpoint. The message names it.
        """
        checkpoint = read_checkpoint(path)
        if "value" not in checkpoint:
            raise ValueError(f"the checkpoint {path} is not of a ValueModule: `lidar fit -c qm9/value` makes one")
        check_finite_weights(f"the checkpoint {path}", checkpoint["state_dict"])
        module = cls(**checkpoint["value"])
        module.load_state_dict(checkpoint["state_dict"])
        return module.eval()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["value"] = self.settings

    def forward(self, x_t: Tensor, t: Tensor) -> Tensor:
        """v (B,) of x_t (B, *S) at t (B,) in [0, 1]."""
        x = x_t.float() if x_t.is_floating_point() else x_t
        waves = torch.cos(math.pi * torch.arange(1, FREQUENCIES + 1, device=t.device) * t[:, None]).float()
        return self.head(torch.cat((self.body(x), waves), 1)).squeeze(1)

    def loss(self, v: Tensor, value: Tensor) -> Tensor:
        """Mean loss of v (B,) where rollouts ended at lambda r = value (B,)."""
        gap = value.float() - v
        return (gap.square() if self.target == "mean" else gap.exp() - gap - 1).mean()

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        x_t, t, value = batch
        loss = self.loss(self(x_t, t), value)
        self.log("train/loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), self.lr)
