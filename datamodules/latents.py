"""Latents of the shapes task, encoded once and kept on disk."""

import logging
from pathlib import Path
from typing import Any

import lightning as L
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datamodules.order import EpochLoader
from datamodules.shapes import Scenes, whole
from lidar_lightning.backbones.vae import latents_of, vae_fingerprint
from lidar_lightning.utils.files import expand, sweep, write_atomically

logger = logging.getLogger(__name__)


class Latents(Dataset):
    """Batches {"latent": (B, C, H, W) float32, "prompt": list of B captions}, in the order of the scenes."""

    def __init__(self, latents: Tensor, scenes: Scenes):
        self.latents = latents
        self.prompts = [scenes.prompt(index).text for index in range(len(latents))]

    def __len__(self) -> int:
        return len(self.latents)

    def __getitems__(self, indices: list[int]) -> dict[str, Any]:
        return {"latent": self.latents[indices].float(), "prompt": [self.prompts[index] for index in indices]}

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])


class LatentsDataModule(L.LightningDataModule):
    """Latents of the scenes of `ShapesDataModule` in half precision, 2 kB each.

    They are read from the folder `cache`. The name of each file tells the weights of the autoencoder, the seed and the
    number of scenes, so that other settings never read it; a file that is missing or damaged is written anew.

    Args:
        vae: the autoencoder that encodes the pictures.
        cache: the folder in which the files of latents are kept.
        count: number of training scenes.
        validation: number of scenes of held-out captions.
        batch_size: latents per batch and device; encoding takes as many pictures at a time.
        seed: determines the scenes and the order of training.

    Raises:
        ValueError: if a number is below 1.
    """

    def __init__(
        self,
        vae: Any,
        cache: str,
        count: int = 100_000,
        validation: int = 1080,
        batch_size: int = 128,
        seed: int = 0,
    ):
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.vae, self.cache, self.batch_size, self.seed = vae, expand(cache), batch_size, seed
        sweep(self.cache)
        self.scenes = {"train": Scenes(count, seed), "validation": Scenes(validation, seed, "validation")}

    def path(self, split: str) -> Path:
        """The file of a split."""
        name = f"{split}-{len(self.scenes[split])}-seed{self.seed}-{vae_fingerprint(self.vae)}.safetensors"
        return self.cache / name

    def prepare_data(self) -> None:
        """Encodes what is not on disk."""
        for split in self.scenes:
            if self.read(split) is None:
                self.write(split)

    def read(self, split: str) -> Tensor | None:
        """The latents of a split (n, C, h, w), or None if their file is missing or damaged."""
        path = self.path(split)
        if not path.is_file():
            return None
        try:
            return load_file(path)["latents"]
        except (SafetensorError, KeyError, OSError) as error:
            logger.warning("%s is damaged and will be written anew: %s", path, error)
            return None

    def write(self, split: str) -> None:
        """Encodes the pictures of a split and writes their file."""
        scenes = self.scenes[split]
        logger.info("encoding %d pictures (%s)", len(scenes), split)
        batches = DataLoader(scenes, self.batch_size, collate_fn=whole)
        with torch.autocast(self.vae.device.type, torch.bfloat16):
            latents = [latents_of(self.vae, batch["image"]).half() for batch in batches]
        write_atomically(self.path(split), save({"latents": torch.cat(latents).contiguous().cpu()}))

    def setup(self, stage: str | None = None) -> None:
        """Reads the latents."""
        self.training, self.held_out = self.dataset("train"), self.dataset("validation")

    def dataset(self, split: str) -> Latents:
        latents = self.read(split)
        if latents is None:
            raise ValueError(f"no latents at {self.path(split)}: call prepare_data first")
        return Latents(latents, self.scenes[split])

    def train_dataloader(self) -> DataLoader:
        options: dict[str, Any] = {"drop_last": True, "collate_fn": whole}
        return EpochLoader(self.training, self.batch_size, self.seed, self.trainer, **options)

    def val_dataloader(self) -> DataLoader:
        return DataLoader(self.held_out, self.batch_size, collate_fn=whole)
