"""Backbones: adapters that turn published models into denoisers."""

from typing import TYPE_CHECKING

from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.backbones.base import Backbone
from lidar_lightning.backbones.constraint import Constraint
from lidar_lightning.backbones.mdlm import MDLM
from lidar_lightning.backbones.molecule import MoleculeBackbone
from lidar_lightning.backbones.udlm import UDLM
from lidar_lightning.utils.lazy import lazy_attributes

if TYPE_CHECKING:
    from lidar_lightning.backbones.any_pipeline import AnyPipeline
    from lidar_lightning.backbones.flux import Flux
    from lidar_lightning.backbones.stable_diffusion import StableDiffusion, StableDiffusion3, StableDiffusionXL
else:
    __getattr__ = lazy_attributes(
        __name__,
        {
            "AnyPipeline": "lidar_lightning.backbones.any_pipeline",
            "Flux": "lidar_lightning.backbones.flux",
            "StableDiffusion": "lidar_lightning.backbones.stable_diffusion",
            "StableDiffusion3": "lidar_lightning.backbones.stable_diffusion",
            "StableDiffusionXL": "lidar_lightning.backbones.stable_diffusion",
        },
    )

__all__ = [
    "MDLM",
    "UDLM",
    "AnyPipeline",
    "Backbone",
    "Constraint",
    "Flux",
    "LoRA",
    "MoleculeBackbone",
    "StableDiffusion",
    "StableDiffusion3",
    "StableDiffusionXL",
]
