"""Metrics of molecules on a list small enough to count by hand."""

import pytest
import rdkit
import torch

from lidar_lightning.evaluation import molecules
from lidar_lightning.evaluation.molecules import QM9_CANONICAL_BY, canonical_strings, molecule_metrics
from lidar_lightning.utils.smiles_io import read_smiles

# Valid: six of eight. As strings: CCO, OCC, CCO, c1ccccc1, C1CC1, C12C3C4C1C5C2C3C45 (five distinct).
# As molecules: ethanol (three times, in two spellings), benzene, cyclopropane, cubane (four distinct).
STRINGS = ["CCO", "OCC", "CCO", "c1ccccc1", "C1CC1", "C12C3C4C1C5C2C3C45", "C1CC", ""]
# Spelled in another way than canonical: the Kekule form of benzene.
TRAINING = ["CCO", "C1=CC=CC=C1", "not a molecule"]


def test_every_metric_by_hand():
    scores = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, -10.0, -20.0])
    assert molecule_metrics(STRINGS, TRAINING, scores) == pytest.approx(
        {
            "samples": 8,
            "valid": 6 / 8,
            "unique": 5 / 6,
            "novel": 4 / 6,  # all but CCO: OCC and c1ccccc1 count as novel, being other strings than the training's
            "valid_count": 6,
            "novel_count": 4,
            "canonical_unique": 4 / 6,
            "canonical_novel": 2 / 6,  # cyclopropane and cubane
            "canonical_novel_count": 2,
            "ring_count": (0 + 0 + 0 + 1 + 1 + 6) / 6,
            "novel_ring_count": (0 + 1 + 1 + 6) / 4,
            "reward": -9 / 8,
            "reward_valid": 21 / 6,
        }
    )


@pytest.mark.parametrize("strings", [[], ["", "C1CC"]])
def test_nothing_valid_gives_zeros(strings):
    metrics = molecule_metrics(strings, TRAINING, torch.full((len(strings),), -1.0))
    expected = {"samples": len(strings), "reward": -1.0 if strings else 0.0}
    assert metrics == {name: expected.get(name, 0.0) for name in metrics}
    assert all(isinstance(value, float) for value in metrics.values())


def test_training_may_be_any_collection():
    kinds = [TRAINING, set(TRAINING), frozenset(TRAINING), tuple(TRAINING)]
    assert len({tuple(molecule_metrics(STRINGS, kind).items()) for kind in kinds}) == 1
    assert molecule_metrics(STRINGS, [])["canonical_novel"] == 4 / 6


def test_without_scores_there_is_no_reward():
    assert not {"reward", "reward_valid"} & molecule_metrics(STRINGS, TRAINING).keys()


def test_wrong_number_of_scores():
    with pytest.raises(ValueError, match=r"scores of shape \(3,\) for 8 strings"):
        molecule_metrics(STRINGS, TRAINING, torch.zeros(3))


def test_the_strings_of_qm9_that_ship_are_canonical_by_the_rdkit_that_says_so():
    if not rdkit.__version__.startswith(QM9_CANONICAL_BY):
        pytest.skip(f"RDKit {rdkit.__version__} writes its own canonical strings")
    some = read_smiles()[::40]
    assert canonical_strings(frozenset(some)) == frozenset(some)
    assert canonical_strings(frozenset(read_smiles())) == frozenset(read_smiles())


def test_another_rdkit_finds_the_canonical_strings_itself(monkeypatch):
    monkeypatch.setattr(molecules, "QM9_CANONICAL_BY", "1999.01")
    monkeypatch.setattr(molecules, "shipped", lambda: frozenset({"OCC"}))
    canonical_strings.cache_clear()
    assert canonical_strings(frozenset({"OCC"})) == {"CCO"}
    canonical_strings.cache_clear()
