"""Lightning data modules."""

from datamodules.preferences import PreferenceDataModule
from datamodules.prompts import PromptDataModule
from datamodules.qm9 import QM9DataModule

__all__ = ["PreferenceDataModule", "PromptDataModule", "QM9DataModule"]
