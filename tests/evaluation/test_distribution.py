"""Metrics of distributions against SciPy, the package fcd, and counts by hand."""

import math

import numpy as np
import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem, Descriptors
from rdkit.DataStructs import TanimotoSimilarity
from scipy import linalg, stats

from lidar_lightning.evaluation import chemnet, distribution
from lidar_lightning.evaluation.distribution import (
    continuous_kl,
    discrete_kl,
    distribution_metrics,
    kl_score,
    nearest_similarity,
    profile,
)
from lidar_lightning.utils.smiles_io import read_smiles

QM9 = read_smiles()
FEW = ["CCO", "OCC", "Cc1ccccc1", "Oc1ccccc1", "C1CC1C=O", "C1CC", ""]


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """A file of a few hundred molecules to compare with."""
    path = tmp_path_factory.mktemp("training") / "some.smi"
    path.write_text("\n".join(QM9[5::400]))
    return str(path)


def test_of_a_few_molecules_by_hand(training):
    """Ethanol is spelled twice; of four molecules the scaffolds are none, benzene and cyclopropane."""
    found = distribution_metrics(FEW, training)
    assert set(found) == {"filters", "scaffold_diversity", "snn"}, "too few for kl_score and fcd"
    assert found["scaffold_diversity"] == 3 / 4
    assert found["filters"] == 4 / 5, "an aldehyde is an alert of BRENK"
    bits = {text: AllChem.GetMorganFingerprintAsBitVect(Chem.MolFromSmiles(text), 2, 2048) for text in FEW[:5]}
    others = [AllChem.GetMorganFingerprintAsBitVect(Chem.MolFromSmiles(text), 2, 2048) for text in QM9[5::400]]
    nearest = [max(TanimotoSimilarity(bits[text], other) for other in others) for text in FEW[:5]]
    assert found["snn"] == pytest.approx(sum(nearest) / 5)
    assert distribution_metrics(["", "C1CC"], training) == {}


def test_the_training_set_is_its_own_nearest(training):
    same = distribution_metrics(QM9[5::400], training)
    assert same["snn"] == 1 and same["kl_score"] == pytest.approx(1)
    other = distribution_metrics(["C" * n + "O" for n in range(1, 120)], training)
    assert other["kl_score"] < 0.4 and other["snn"] < 0.5


@pytest.mark.parametrize("seed", range(2))
def test_kl_is_that_of_scipys_densities(seed):
    rng = np.random.default_rng(seed)
    base, other = rng.normal(size=300), rng.normal(0.5 + seed, 2, size=200)
    at = np.linspace(min(base.min(), other.min()), max(base.max(), other.max()), 1000)
    densities = [stats.gaussian_kde(values)(at) + 1e-10 for values in (base, other)]
    assert continuous_kl(base, other) == pytest.approx(stats.entropy(*densities), rel=1e-6)
    counts, fewer = rng.poisson(3, 300), rng.poisson(4, 200)
    shares, edges = np.histogram(counts, bins=10, density=True)
    wanted = stats.entropy(shares + 1e-10, np.histogram(fewer, bins=edges, density=True)[0] + 1e-10)
    assert discrete_kl(counts, fewer) == pytest.approx(wanted, rel=1e-6)


def test_kl_of_constants():
    constant, spread = np.ones(5), np.arange(5.0)
    assert continuous_kl(constant, constant) == 0 and math.isinf(continuous_kl(spread, constant))
    assert math.isinf(continuous_kl(constant, spread)) and math.isinf(discrete_kl(spread, constant + 99))


def test_kl_score_by_its_definition():
    """GuacaMol's: four continuous and five counted descriptors, and the similarity to the nearest other."""
    one, other = ([Chem.MolFromSmiles(text) for text in QM9[start::900]] for start in (0, 7))
    found = profile(one)
    assert found["TPSA"].tolist() == [Descriptors.TPSA(mol) for mol in one] and len(found) == 10
    prints = [AllChem.GetMorganFingerprintAsBitVect(mol, 2, 4096) for mol in one]
    nearest = [
        max(TanimotoSimilarity(a, b) for place, b in enumerate(prints) if place != row) for row, a in enumerate(prints)
    ]
    assert found["similarity"].tolist() == pytest.approx(nearest)
    reference = profile(other)
    parts = [
        math.exp(-continuous_kl(reference[name], found[name])) for name in (*distribution.CONTINUOUS, "similarity")
    ]
    parts += [math.exp(-discrete_kl(reference[name], found[name])) for name in distribution.COUNTS]
    assert kl_score(found, reference) == pytest.approx(sum(parts) / 10) and 0.5 < kl_score(found, reference) < 1


def test_large_sets_are_sampled_evenly():
    assert list(chemnet.evenly(range(10), 4)) == [0, 3, 6, 9] and list(chemnet.evenly(range(3), 4)) == [0, 1, 2]
    molecules = [Chem.MolFromSmiles(text) for text in FEW[:3]]
    assert nearest_similarity(molecules, distribution.fingerprints(molecules)) == 1


def test_fcd_is_that_of_its_package(monkeypatch):
    fcd = pytest.importorskip("fcd", reason="the extra fcd is not installed")
    one, other = QM9[::5000], QM9[3::6000]
    wanted = [fcd.get_predictions(fcd.load_ref_model(), list(some), n_jobs=0, device="cpu") for some in (one, other)]
    found = chemnet.chemnet_features(one, batch_size=10)
    torch.testing.assert_close(found, torch.from_numpy(wanted[0]), atol=1e-5, rtol=0)
    monkeypatch.setattr(chemnet, "read_smiles", lambda path: list(other))
    chemnet.reference.cache_clear()
    covariances = [np.cov(features.T) for features in wanted]
    gap = np.square(wanted[0].mean(0) - wanted[1].mean(0)).sum()
    root = linalg.sqrtm(covariances[0] @ covariances[1]).real
    expected = gap + sum(np.trace(c) for c in covariances) - 2 * np.trace(root)
    assert chemnet.frechet_chemnet_distance(one, "elsewhere.smi") == pytest.approx(expected, abs=0.02)
    chemnet.reference.cache_clear()


def test_the_reference_of_qm9_that_ships(monkeypatch):
    """Its mean and covariance are those of 9,557 molecules: the features of some others agree."""
    pytest.importorskip("fcd", reason="the extra fcd is not installed")
    mean, covariance = chemnet.reference()
    assert torch.equal(covariance, covariance.T) and torch.linalg.eigvalsh(covariance).min() > -1e-4
    some = chemnet.chemnet_features(QM9[7::1400]).double()
    error = some.std(0) / math.sqrt(len(some))
    away = ((some.mean(0) - mean) / error.clamp(min=1e-6))[error > 1e-3]
    assert away.square().mean() < 2, "of the size of the standard error"
    monkeypatch.setattr(distribution, "FEWEST_FCD", 50)
    near = distribution_metrics(QM9[7::1400])["fcd"]
    far = distribution_metrics(["C" * n + "O" for n in range(1, 60)])["fcd"]
    assert near < far
    monkeypatch.setattr(chemnet.util, "find_spec", lambda name: None)
    assert "fcd" not in distribution_metrics(QM9[7::1400]), "without the package there is no such number"
