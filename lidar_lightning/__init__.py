"""LiDAR-Lightning: DPO fine-tuning of diffusion models and guidance by lookahead sample rewards, in one workflow."""

from typing import TYPE_CHECKING

from lidar_lightning.utils.lazy import lazy_attributes

if TYPE_CHECKING:
    from lidar_lightning.backbones import (
        MDLM,
        UDLM,
        AnyPipeline,
        Backbone,
        Constraint,
        Flux,
        StableDiffusion,
        StableDiffusion3,
        StableDiffusionXL,
    )
    from lidar_lightning.guidance import LiDARGuidance, LiDARSettings
    from lidar_lightning.guidance.modular import LiDARBankStep, LiDARStep, add_lidar
    from lidar_lightning.guidance.pipelines import guide
    from lidar_lightning.lookahead import BankStore, Lookahead, LookaheadBank
    from lidar_lightning.modules import DPOModule, LiDARModule, RewardTuningModule, SamplingModule, ValueModule
    from lidar_lightning.pretraining import PretrainModule
    from lidar_lightning.rewards import Reward
else:
    HOMES = {
        "backbones": (
            "MDLM",
            "UDLM",
            "AnyPipeline",
            "Backbone",
            "Constraint",
            "Flux",
            "StableDiffusion",
            "StableDiffusion3",
            "StableDiffusionXL",
        ),
        "guidance": ("LiDARGuidance", "LiDARSettings"),
        "guidance.modular": ("LiDARBankStep", "LiDARStep", "add_lidar"),
        "guidance.pipelines": ("guide",),
        "lookahead": ("BankStore", "Lookahead", "LookaheadBank"),
        "modules": ("DPOModule", "LiDARModule", "RewardTuningModule", "SamplingModule", "ValueModule"),
        "pretraining": ("PretrainModule",),
        "rewards": ("Reward",),
    }
    FOLDERS = ("backbones", "functional", "guidance", "lookahead", "modules", "rewards", "samplers", "solvers")
    __getattr__ = lazy_attributes(
        __name__,
        {name: f"{__name__}.{home}" for home, names in HOMES.items() for name in names}
        | {name: f"{__name__}.{name}" for name in FOLDERS},
    )

__version__ = "0.1.0"
__all__ = [
    "MDLM",
    "UDLM",
    "AnyPipeline",
    "Backbone",
    "BankStore",
    "Constraint",
    "DPOModule",
    "Flux",
    "LiDARBankStep",
    "LiDARGuidance",
    "LiDARModule",
    "LiDARSettings",
    "LiDARStep",
    "Lookahead",
    "LookaheadBank",
    "PretrainModule",
    "Reward",
    "RewardTuningModule",
    "SamplingModule",
    "StableDiffusion",
    "StableDiffusion3",
    "StableDiffusionXL",
    "ValueModule",
    "add_lidar",
    "guide",
]
