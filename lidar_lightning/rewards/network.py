"""What rewards with a pretrained network share: lazy loading, batches, devices, gradients to pixels, and prompts."""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from lidar_lightning.rewards.base import Reward
from lidar_lightning.rewards.images import check_images, working_copy
from lidar_lightning.utils.weights import fingerprint

log = logging.getLogger(__name__)
Precision = Literal["float32", "bfloat16", "float16", "float64"]


class NetworkReward(Reward):
    """Scores images with a frozen network, which is loaded at the first call and then kept.

    A graph is built only if the samples require gradients and gradients are enabled; it leads to the pixels and to no
    weights. A subclass names itself, implements `load` and `forward`, and raises `revision` when its values change.

    Args:
        model: where the weights are: a repository on the Hugging Face hub, a local folder or, where there is one file,
            that file. It is part of the version, because stored scores depend on it.
        batch_size: images that the network sees at once; scores do not depend on it.
        device: where the network runs; None is wherever the samples are.
        dtype: type of the network's weights and activations, which is part of the version. Images are prepared in
            float32.

    Raises:
        ValueError: if the batch size is not positive or the dtype unknown.
    """

    differentiable = True
    modality = "image"
    revision: ClassVar[int] = 1

    def __init__(self, model: str, batch_size: int = 16, device: str | None = None, dtype: Precision = "float32"):
        if batch_size < 1:
            raise ValueError(f"reward {self.name!r} needs a batch_size of at least 1, got {batch_size}")
        if dtype not in ("float32", "bfloat16", "float16", "float64"):
            raise ValueError(f"reward {self.name!r} runs in float32, bfloat16, float16 or float64, got dtype={dtype!r}")
        self.model, self.batch_size, self.device = str(model), batch_size, device
        self.dtype: torch.dtype = getattr(torch, dtype)
        self.version = f"{self.revision}, model={model}, dtype={dtype}"

    @property
    def sources(self) -> list[str]:
        """The files, folders or repositories of its weights."""
        return [self.model]

    @property
    def identity(self) -> str:
        """The reward's identity, with a fingerprint of weights that lie on this machine, which may change there."""
        local = any(Path(source).expanduser().exists() for source in self.sources)
        return f"{super().identity}, weights={self._weights}" if local else super().identity

    @cached_property
    def _weights(self) -> str:
        return fingerprint("", self.network.state_dict())

    @abstractmethod
    def load(self) -> nn.Module:
        """The network with its published weights.

        Raises:
            ValueError: if they cannot be found or read. The message names the reward and the file or repository.
        """

    @abstractmethod
    def forward(self, images: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores (b,) of b images (b, 3, H, W) in [0, 1], float32 or float64, on the device of the network."""

    @cached_property
    def network(self) -> Any:
        return self.load().requires_grad_(False).eval().to(self.dtype)

    def __call__(self, samples: Tensor, prompts: Sequence[str]) -> Tensor:
        """Scores (n,) float32 of n images, on the device of the samples.

        Args:
            samples: (n, 3, H, W) in [0, 1], of any floating dtype, on any device.
            prompts: one per image.

        Raises:
            ValueError: if the samples are no such images, there is not one prompt each, or the weights cannot be had.
        """
        images, prompts = check_images(self.name, samples), check_prompts(self.name, prompts, len(samples))
        device = images.device if self.device is None else torch.device(self.device)
        self.network.to(device)
        scores = []
        with torch.set_grad_enabled(images.requires_grad and torch.is_grad_enabled()):
            for start in range(0, len(images), self.batch_size):
                part = slice(start, start + self.batch_size)
                scores.append(self.forward(working_copy(images[part], device), prompts[part]))
            return torch.cat(scores).float().to(images.device)


class Tokens:
    """Prompts as token ids of one length. A prompt over the limit is cut to its beginning, with one warning.

    Args:
        reward: the name of the reward, for the warning.
        tokenizer: a tokenizer of transformers.
        limit: number of tokens that the network reads, including its start and end tokens.
    """

    def __init__(self, reward: str, tokenizer: Any, limit: int):
        self.reward, self.tokenizer, self.limit = reward, tokenizer, limit
        self.warned: set[str] = set()

    def __call__(self, prompts: Sequence[str], device: torch.device) -> dict[str, Tensor]:
        """input_ids and attention_mask, each (b, limit) int64."""
        lengths = map(len, self.tokenizer(list(prompts), verbose=False)["input_ids"])
        for prompt, length in zip(prompts, lengths, strict=True):
            if length > self.limit and prompt not in self.warned:
                self.warned.add(prompt)
                log.warning(
                    "reward %s reads %d tokens of a prompt and ignores the other %d of %r",
                    *(self.reward, self.limit, length - self.limit, prompt),
                )
        encoded = self.tokenizer(
            list(prompts), padding="max_length", truncation=True, max_length=self.limit, return_tensors="pt"
        )
        return {key: encoded[key].to(device) for key in ("input_ids", "attention_mask")}


def check_prompts(name: str, prompts: Sequence[str], n: int) -> list[str]:
    """Returns the prompts as a list, and raises ValueError, naming the reward, unless they are n strings."""
    wrong = [prompt for prompt in prompts if not isinstance(prompt, str)]
    if isinstance(prompts, str) or len(prompts) != n or wrong:
        received = f"a prompt {wrong[0]!r}" if wrong else f"{len(prompts)} prompts"
        received = repr(prompts) if isinstance(prompts, str) else received
        raise ValueError(f"reward {name!r} needs one prompt, a string, for each of {n} samples, got {received}")
    return list(prompts)
