"""Rewards: what guidance maximises and reports tabulate. Each is imported when it is first used."""

from typing import TYPE_CHECKING

from lidar_lightning.utils.lazy import lazy_attributes

if TYPE_CHECKING:
    from lidar_lightning.rewards.admet import ADMET
    from lidar_lightning.rewards.aesthetic import Aesthetic
    from lidar_lightning.rewards.base import Reward, score, scored_rewards, utility
    from lidar_lightning.rewards.callables import CallableReward, load_reward
    from lidar_lightning.rewards.clip import CLIPReward, CLIPScore, PickScore
    from lidar_lightning.rewards.combine import Combined, minimum, pareto_rank, weighted_sum, z_normalise
    from lidar_lightning.rewards.descriptors import Descriptor, Isomers, PenalizedLogP
    from lidar_lightning.rewards.guacamol import GuacaMol
    from lidar_lightning.rewards.hps import HPSv21
    from lidar_lightning.rewards.http import HTTPReward, HTTPScorer
    from lidar_lightning.rewards.image_reward import ImageReward
    from lidar_lightning.rewards.jpeg import JPEGCompressibility, JPEGIncompressibility
    from lidar_lightning.rewards.judge import VisionJudge
    from lidar_lightning.rewards.mean import Mean
    from lidar_lightning.rewards.molecules import (
        QED,
        ElementCount,
        HeavyAtoms,
        LogP,
        MoleculeReward,
        RingCount,
        SyntheticAccessibility,
        Validity,
    )
    from lidar_lightning.rewards.network import NetworkReward
    from lidar_lightning.rewards.ocr import OCRMatch
    from lidar_lightning.rewards.parallel import Parallel
    from lidar_lightning.rewards.shapes import ShapesReward, ShapesVerdict
    from lidar_lightning.rewards.shaping import Peak, Ramp, Step
    from lidar_lightning.rewards.similarity import ScaffoldKept, Similarity, Substructure
else:
    HOMES = {
        "admet": ("ADMET",),
        "aesthetic": ("Aesthetic",),
        "base": ("Reward", "score", "scored_rewards", "utility"),
        "callables": ("CallableReward", "load_reward"),
        "clip": ("CLIPReward", "CLIPScore", "PickScore"),
        "combine": ("Combined", "minimum", "pareto_rank", "weighted_sum", "z_normalise"),
        "descriptors": ("Descriptor", "Isomers", "PenalizedLogP"),
        "guacamol": ("GuacaMol",),
        "hps": ("HPSv21",),
        "http": ("HTTPReward", "HTTPScorer"),
        "image_reward": ("ImageReward",),
        "jpeg": ("JPEGCompressibility", "JPEGIncompressibility"),
        "judge": ("VisionJudge",),
        "mean": ("Mean",),
        "molecules": (
            "QED",
            "ElementCount",
            "HeavyAtoms",
            "LogP",
            "MoleculeReward",
            "RingCount",
            "SyntheticAccessibility",
            "Validity",
        ),
        "network": ("NetworkReward",),
        "ocr": ("OCRMatch",),
        "parallel": ("Parallel",),
        "shapes": ("ShapesReward", "ShapesVerdict"),
        "shaping": ("Peak", "Ramp", "Step"),
        "similarity": ("ScaffoldKept", "Similarity", "Substructure"),
    }
    __getattr__ = lazy_attributes(
        __name__, {name: f"{__name__}.{home}" for home, names in HOMES.items() for name in names}
    )

__all__ = [
    "ADMET",
    "QED",
    "Aesthetic",
    "CLIPReward",
    "CLIPScore",
    "CallableReward",
    "Combined",
    "Descriptor",
    "ElementCount",
    "GuacaMol",
    "HPSv21",
    "HTTPReward",
    "HTTPScorer",
    "HeavyAtoms",
    "ImageReward",
    "Isomers",
    "JPEGCompressibility",
    "JPEGIncompressibility",
    "LogP",
    "Mean",
    "MoleculeReward",
    "NetworkReward",
    "OCRMatch",
    "Parallel",
    "Peak",
    "PenalizedLogP",
    "PickScore",
    "Ramp",
    "Reward",
    "RingCount",
    "ScaffoldKept",
    "ShapesReward",
    "ShapesVerdict",
    "Similarity",
    "Step",
    "Substructure",
    "SyntheticAccessibility",
    "Validity",
    "VisionJudge",
    "load_reward",
    "minimum",
    "pareto_rank",
    "score",
    "scored_rewards",
    "utility",
    "weighted_sum",
    "z_normalise",
]
