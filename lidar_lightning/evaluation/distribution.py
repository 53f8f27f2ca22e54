"""What a gain in reward costs: how generated molecules are distributed beside those of training.

KL is that of GuacaMol (Brown et al., arXiv 1811.09621), SNN that of MOSES (Polykovskiy et al., 1811.12823), FCD in
`chemnet`. Of large sets evenly spaced molecules stand for all.
"""

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from rdkit import Chem, DataStructs
from rdkit.Chem import Descriptors, rdFingerprintGenerator
from rdkit.Chem.FilterCatalog import FilterCatalog, FilterCatalogParams
from rdkit.Chem.Scaffolds import MurckoScaffold

from lidar_lightning.evaluation import chemnet
from lidar_lightning.evaluation.chemnet import REFERENCES, evenly
from lidar_lightning.rewards.molecules import parse
from lidar_lightning.utils.smiles_io import read_smiles

CONTINUOUS = ("BertzCT", "MolLogP", "MolWt", "TPSA")
COUNTS = (
    "NumHAcceptors", "NumHDonors", "NumRotatableBonds", "NumAliphaticRings", "NumAromaticRings"
)  # fmt: skip
PAIRED = 2048
"""Molecules whose properties and pairs are compared, at most."""
FEWEST_KL, FEWEST_FCD = 100, 1000
"""Fewer say nothing of a distribution: different molecules for KL, valid samples for FCD."""
CATALOGS = ("PAINS", "BRENK")


def distribution_metrics(strings: Sequence[str], training_data: str | None = None) -> dict[str, float]:
    """Of SMILES strings, invalid ones left out; what too few samples cannot tell is not there.

    Args:
        strings: all samples of one method.
        training_data: SMILES file; None takes QM9.

    Returns:
        filters, the share of valid molecules without a structural alert of PAINS or BRENK (RDKit's catalogs);
        scaffold_diversity, the number of different Bemis-Murcko scaffolds over that of different molecules (all without
        rings share one); snn, the mean Tanimoto similarity to the nearest of at most 10,000 molecules of training, by
        Morgan fingerprints of radius 2; kl_score, see `kl_score`, from 100 different molecules; and fcd, from 1,000
        valid ones, if the package fcd is installed.
    """
    molecules = [mol for mol in map(parse, strings) if mol is not None]
    if not molecules:
        return {}
    canonical = [Chem.MolToSmiles(mol) for mol in molecules]
    distinct = {Chem.MolToSmiles(mol, isomericSmiles=False): mol for mol in molecules}
    scaffolds = {MurckoScaffold.MurckoScaffoldSmiles(mol=mol) for mol in distinct.values()}
    alerts = catalog()
    found = {
        "filters": sum(not alerts.HasMatch(mol) for mol in molecules) / len(molecules),
        "scaffold_diversity": len(scaffolds) / len(distinct),
        "snn": nearest_similarity(evenly(molecules, PAIRED), training_fingerprints(training_data)),
    }
    if len(distinct) >= FEWEST_KL:
        some = evenly(list(distinct.values()), PAIRED)
        found["kl_score"] = kl_score(profile(some), training_profile(training_data))
    if len(canonical) >= FEWEST_FCD and chemnet.available():
        found["fcd"] = chemnet.frechet_chemnet_distance(evenly(canonical), training_data)
    return found


@cache
def catalog() -> FilterCatalog:
    """The structural alerts of CATALOGS."""
    chosen = FilterCatalogParams()
    for name in CATALOGS:
        chosen.AddCatalog(getattr(FilterCatalogParams.FilterCatalogs, name))
    return FilterCatalog(chosen)


@cache
def training_molecules(training_data: str | None) -> list[Chem.Mol]:
    """At most 10,000 of the molecules of training, evenly spaced in the file."""
    return [mol for mol in map(parse, evenly(read_smiles(training_data), REFERENCES)) if mol is not None]


@cache
def training_fingerprints(training_data: str | None) -> list[Any]:
    """Of `training_molecules`, for SNN."""
    return fingerprints(training_molecules(training_data))


@cache
def training_profile(training_data: str | None) -> dict[str, np.ndarray]:
    """Of at most 2,048 of `training_molecules`, for KL."""
    return profile(evenly(training_molecules(training_data), PAIRED))


def fingerprints(molecules: Sequence[Chem.Mol], bits: int = 2048) -> list[Any]:
    """Morgan fingerprints of radius 2."""
    generator = rdFingerprintGenerator.GetMorganGenerator(2, fpSize=bits)
    return [generator.GetFingerprint(mol) for mol in molecules]


def nearest_similarity(molecules: Sequence[Chem.Mol], others: Sequence[Any]) -> float:
    """The mean over molecules of the Tanimoto similarity to the nearest of other fingerprints."""
    nearest = [max(DataStructs.BulkTanimotoSimilarity(one, others)) for one in fingerprints(molecules)]
    return sum(nearest) / len(nearest)


def profile(molecules: Sequence[Chem.Mol]) -> dict[str, np.ndarray]:
    """Nine descriptors by their names, and the similarity of each molecule to the nearest other: (n,) each."""
    found = {
        name: np.array([float(getattr(Descriptors, name)(mol)) for mol in molecules]) for name in CONTINUOUS + COUNTS
    }
    prints = fingerprints(molecules, 4096)
    nearest = np.zeros(len(prints))
    for row in range(1, len(prints)):
        similar = np.array(DataStructs.BulkTanimotoSimilarity(prints[row], prints[:row]))
        nearest[row] = similar.max()
        nearest[:row] = np.maximum(nearest[:row], similar)
    return {**found, "similarity": nearest}


def kl_score(generated: dict[str, np.ndarray], training: dict[str, np.ndarray]) -> float:
    """The mean over ten properties of exp(-KL(training | generated)), in [0, 1]; 1 for equal distributions."""
    divergences = [continuous_kl(training[name], generated[name]) for name in (*CONTINUOUS, "similarity")]
    divergences += [discrete_kl(training[name], generated[name]) for name in COUNTS]
    return sum(math.exp(-value) for value in divergences) / len(divergences)


def continuous_kl(base: np.ndarray, other: np.ndarray) -> float:
    """KL of Gaussian kernel densities (Scott's bandwidth) at 1,000 points that span both; infinite of a constant."""
    if min(base.std(), other.std()) == 0:
        return 0.0 if np.array_equal(np.unique(base), np.unique(other)) else math.inf
    both = np.concatenate([base, other])
    at = np.linspace(both.min(), both.max(), 1000)
    return _entropy(_density(base, at) + 1e-10, _density(other, at) + 1e-10)


def discrete_kl(base: np.ndarray, other: np.ndarray) -> float:
    """KL of histograms of ten bins, which span the first; infinite if none of the others lies there."""
    counts, edges = np.histogram(base, 10)
    others, _ = np.histogram(other, edges)
    if not others.sum():
        return math.inf
    densities = [found / found.sum() / np.diff(edges) + 1e-10 for found in (counts, others)]
    return _entropy(densities[0], densities[1])


def _density(values: np.ndarray, at: np.ndarray) -> np.ndarray:
    width = values.std(ddof=1) * len(values) ** -0.2
    return np.exp(-(((at[:, None] - values) / width) ** 2) / 2).mean(1) / (width * math.sqrt(2 * math.pi))


def _entropy(one: np.ndarray, other: np.ndarray) -> float:
    one, other = one / one.sum(), other / other.sum()
    return float((one * np.log(one / other)).sum())
