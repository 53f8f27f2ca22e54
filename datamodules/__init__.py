"""Lightning data modules."""

from datamodules.latents import LatentsDataModule
from datamodules.preferences import PreferenceDataModule
from datamodules.prompts import PromptDataModule
from datamodules.qm9 import QM9DataModule
from datamodules.rollouts import RolloutDataModule
from datamodules.shapes import ShapesDataModule

__all__ = [
    "LatentsDataModule",
    "PreferenceDataModule",
    "PromptDataModule",
    "QM9DataModule",
    "RolloutDataModule",
    "ShapesDataModule",
]
