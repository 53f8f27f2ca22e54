"""The Fréchet ChemNet distance of molecules to those of training, by the network that the package fcd ships."""

from collections.abc import Sequence
from functools import cache
from importlib import util
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from lidar_lightning.assets import ASSETS, check_shipped
from lidar_lightning.evaluation.frechet import gaussian_distance, moments
from lidar_lightning.utils.smiles_io import read_smiles
from lidar_lightning.utils.tensor_files import load_tensors, save_tensors

T = TypeVar("T")
LENGTH = 350
"""Characters to which the published distance pads every string."""
FEATURES = 512
REFERENCES = 10_000
"""Molecules of training that stand for all, evenly spaced in their file."""
QM9 = ASSETS / "qm9_chemnet.safetensors"
"""Mean and covariance of those of QM9, which ship: computing them takes a minute."""


def available() -> bool:
    """Whether the package fcd is installed."""
    return util.find_spec("fcd") is not None


def frechet_chemnet_distance(strings: Sequence[str], training_data: str | None = None) -> float:
    """FCD of valid SMILES strings, at least two, to the molecules of training; lower is nearer.

    Means and covariances of ChemNet's 512 features of both are compared (Preuer et al., J. Chem. Inf. Model. 58, 2018).
    Those of few samples are biased upwards, by about 1/n: compare only what is of as many samples.

    Args:
        strings: canonical SMILES.
        training_data: SMILES file; None takes QM9.
    """
    return gaussian_distance(moments(chemnet_features(strings)), reference(training_data))


@torch.inference_mode()
def chemnet_features(strings: Sequence[str], batch_size: int = 128) -> Tensor:
    """The last layer of ChemNet but one: (n, 512) float32, at about 5 ms a molecule on one core."""
    from fcd import load_ref_model
    from fcd.utils import get_one_hot

    network, found = load_ref_model(), []
    for first in range(0, len(strings), batch_size):
        some = strings[first : first + batch_size]
        length = max([LENGTH, *(len(text) + 1 for text in some)])
        letters = np.stack([get_one_hot(text, pad_len=length) for text in some])
        found.append(network(torch.from_numpy(letters / letters.shape[2]).transpose(1, 2).float()))
    return torch.cat(found).clone()


@cache
def reference(training_data: str | None = None) -> tuple[Tensor, Tensor]:
    """Mean (512,) and covariance (512, 512) of the molecules of training: of QM9 from the file that ships."""
    if training_data is None:
        check_shipped(QM9)
        tensors, _ = load_tensors(QM9)
        covariance = torch.zeros(FEATURES, FEATURES, dtype=torch.float64)
        covariance[tuple(torch.triu_indices(FEATURES, FEATURES))] = tensors["covariance"].double()
        return tensors["mean"].double(), covariance + covariance.triu(1).T
    return moments(chemnet_features(evenly(read_smiles(training_data))))


def evenly(items: Sequence[T], most: int = REFERENCES) -> Sequence[T]:
    """At most so many of the items, evenly spaced."""
    return items[:: max(1, -(-len(items) // most))]


def write_reference(path: Path = QM9) -> None:
    """Computes what ships of QM9 again: `python -c "from lidar_lightning.evaluation import chemnet as c;
    c.write_reference()"`, after another release of fcd."""
    mean, covariance = moments(chemnet_features(evenly(read_smiles())))
    upper = covariance[tuple(torch.triu_indices(FEATURES, FEATURES))]
    save_tensors(path, {"mean": mean.float(), "covariance": upper.float()}, {"molecules": len(evenly(read_smiles()))})
