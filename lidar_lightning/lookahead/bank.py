"""Lookahead banks: n cheap samples of one prompt, their rewards, and where the samples came from."""

import hashlib
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from lidar_lightning.backbones.base import Backbone, clean_samples
from lidar_lightning.rewards import Reward, score
from lidar_lightning.rewards.base import check_reward
from lidar_lightning.rewards.scores import as_scores
from lidar_lightning.utils.chunks import in_chunks
from lidar_lightning.utils.files import write_atomically
from lidar_lightning.utils.pictures import as_pixels
from lidar_lightning.utils.tensor_files import checksum

logger = logging.getLogger(__name__)
FORMAT = "lidar-bank-1"


@dataclass(frozen=True)
class Provenance:
    """Everything that determines the samples of a bank, and nothing about rewards."""

    prompt: str
    backbone: str
    fingerprint: str
    """Of the weights that drew the samples."""
    space: str
    """Of the samples: a bank guides models of the same space only."""
    solver: str
    steps: int
    n: int
    seed: int

    def key(self) -> str:
        """The hash, of 16 hexadecimal digits, under which a store files the bank."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class LookaheadBank:
    """n samples of one prompt and their rewards. It is immutable: adding a reward makes a new bank.

    Args:
        samples: clean samples (n, *S), as the backbone predicts them.
        rewards: from the names of rewards to their scores (n,), unchanged; kept as float32 tensors.
        provenance: where the samples came from.
        versions: from names to the identities of the rewards that gave the scores.
        higher_is_better: from names to whether high scores are good. A name that is missing, as in files of version
            0.1.0, counts as true.
        seconds: how long drawing the samples took.

    Raises:
        ValueError: if the bank is empty, or if a reward does not have one finite score per sample.
    """

    samples: Tensor
    rewards: Mapping[str, Tensor]
    provenance: Provenance
    versions: Mapping[str, str] = field(default_factory=dict)
    higher_is_better: Mapping[str, bool] = field(default_factory=dict)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not len(self.samples):
            raise ValueError(f"a bank needs at least one sample, got {tuple(self.samples.shape)}")
        object.__setattr__(self, "rewards", {name: as_scores(name, value) for name, value in self.rewards.items()})
        for name, scores in self.rewards.items():
            if scores.shape != (len(self.samples),) or not scores.isfinite().all():
                raise ValueError(
                    f"reward {name!r} needs one finite score for each of {len(self.samples)} samples, "
                    f"got shape {tuple(scores.shape)} with {int((~scores.isfinite()).sum())} not finite"
                )

    @classmethod
    def from_latents(
        cls,
        backbone: Backbone,
        latents: Any,
        scores: Any,
        prompt: str,
        higher_is_better: bool = True,
    ) -> "LookaheadBank":
        """Makes a bank of clean samples that you have, whatever drew them, for guidance, restarts and preferences.

        Args:
            backbone: the model that the bank will guide.
            latents: clean samples in the form in which this model predicts them, latents or tokens (n, *S), as a
                tensor, an array or a list.
            scores: one number per sample, under the name "score"; or a dictionary of several such lists by name.
            prompt: the prompt of the samples.
            higher_is_better: whether high scores are good.

        Raises:
            ValueError: if the prompt is empty, if the samples are not of the model's shape and kind or not finite, or
                if there is not one finite score for each.
        """
        if not prompt.strip():
            raise ValueError("a bank is of one prompt, which must not be empty")
        samples = clean_samples(backbone, latents)
        given = scores if isinstance(scores, Mapping) else {"score": scores}
        provenance = Provenance(
            prompt=prompt, backbone=backbone.name, fingerprint=checksum({"samples": samples})[:16],
            space=backbone.space, solver="given", steps=0, n=len(samples), seed=0,
        )  # fmt: skip
        return cls(samples, given, provenance, higher_is_better=dict.fromkeys(given, higher_is_better))

    @classmethod
    def from_images(cls, backbone: Backbone, images: Any, scores: Any, prompt: str, **told: Any) -> "LookaheadBank":
        """Makes a bank of pictures of the model's size, which its VAE encodes; see `from_latents`.

        Args:
            images: PIL images, arrays (H, W, 3) or tensors (3, H, W), in bytes or in [0, 1]; a list, or one batch.
        """
        return cls.from_latents(backbone, backbone.x0_of(as_pixels(images)), scores, prompt, **told)

    @classmethod
    def from_smiles(
        cls, backbone: Backbone, smiles: Sequence[str], scores: Any, prompt: str = "molecule", **told: Any
    ) -> "LookaheadBank":
        """Makes a bank of molecules; see `from_latents`."""
        return cls.from_latents(backbone, backbone.x0_of(list(smiles)), scores, prompt, **told)

    def scored(
        self,
        rewards: Sequence[Reward],
        decode: Callable[[Tensor], Any],
        decoder: str | None = None,
        batch_size: int | None = None,
    ) -> "LookaheadBank":
        """This bank with these rewards as well. Scores of the same name, identity and decoder are kept.

        Args:
            rewards: the rewards.
            decode: turns clean samples into what rewards score.
            decoder: the name of the decoder, if it is not the model's own.
            batch_size: number of samples that are decoded and scored at once; None takes all.
        """
        for reward in rewards:
            check_reward(reward)
        current = {r.name: f"{r.identity}, decoder={decoder}" if decoder else r.identity for r in rewards}
        directions = {**self.higher_is_better, **{r.name: r.higher_is_better for r in rewards}}
        missing = [r for r in rewards if self.versions.get(r.name) != current[r.name]]
        if not missing:
            return self if directions == self.higher_is_better else replace(self, higher_is_better=directions)

        def values(start: int, stop: int) -> Tensor:
            decoded, prompts = decode(self.samples[start:stop]), [self.provenance.prompt] * (stop - start)
            return torch.stack([score(r, decoded, prompts) for r in missing])

        with torch.no_grad():
            rows = torch.cat(in_chunks(values, len(self.samples), batch_size), 1)
        scores = {r.name: row for r, row in zip(missing, rows, strict=True)}
        return replace(
            self,
            rewards={**self.rewards, **scores},
            versions={**self.versions, **current},
            higher_is_better=directions,
        )

    def save(self, path: Path) -> None:
        """Writes one safetensors file, whole or not at all. Raises OSError naming the path if that fails."""
        tensors = {"samples": self.samples, **{f"reward.{name}": value for name, value in self.rewards.items()}}
        tensors = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
        header = {
            "format": FORMAT,
            "provenance": json.dumps(asdict(self.provenance)),
            "versions": json.dumps(dict(self.versions)),
            "higher_is_better": json.dumps(dict(self.higher_is_better)),
            "seconds": str(self.seconds),
            "checksum": checksum(tensors),
        }
        write_atomically(path, save(tensors, header))

    @classmethod
    def load(cls, path: Path) -> "LookaheadBank":
        """Reads a bank. Raises ValueError naming the file if it is missing, damaged, or of another format."""
        try:
            with safe_open(path, framework="pt") as file:
                header = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            if header.get("format") != FORMAT:
                raise ValueError(f"its format is {header.get('format')!r}, not {FORMAT!r}")
            if checksum(tensors) != header["checksum"]:
                raise ValueError("its checksum does not match")
            return cls(
                samples=tensors.pop("samples"),
                rewards={name.removeprefix("reward."): value for name, value in tensors.items()},
                provenance=Provenance(**json.loads(header["provenance"])),
                versions=json.loads(header["versions"]),
                higher_is_better=json.loads(header.get("higher_is_better", "{}")),
                seconds=float(header["seconds"]),
            )
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the bank file {path} cannot be read: {error}") from error


def check_space(provenance: Provenance, space: str, model: str, same_space: bool = False) -> None:
    """Raises ValueError unless samples of a provenance lie in the space that a model works in.

    Args:
        provenance: where the samples came from.
        space: the space of the model.
        model: how messages call the model.
        same_space: says that latents of another autoencoder mean the same in this one, and warns. They must still have
            the same shape.
    """
    given = provenance.space
    if given == space:
        return
    found = f"lookaheads of {provenance.prompt!r} by {provenance.backbone!r} lie in the space {given!r}, but {model}"
    if not same_space or given.rpartition("-")[2] != space.rpartition("-")[2]:
        raise ValueError(
            f"{found} works in {space!r}: draw them with a model of the same data, latents and size, or, for an "
            "autoencoder that is known to share its latents with this one at the same size, say same_space=True"
        )
    warnings.warn(f"{found}, which works in {space!r}, is told that it is the same", stacklevel=3)


def check_together(banks: Sequence[LookaheadBank]) -> None:
    """Raises ValueError unless there are banks and all have the same shape, so that they can guide one batch."""
    if not banks:
        raise ValueError("guidance needs the bank of each prompt, got none")
    if len({bank.samples.shape for bank in banks}) > 1:
        each = ", ".join(f"{tuple(bank.samples.shape)} of {bank.provenance.prompt!r}" for bank in banks)
        raise ValueError(f"the banks of one batch must have the same shape, got {each}: draw them with the same n")
