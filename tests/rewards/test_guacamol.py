"""Tasks of GuacaMol against the scores of its own package, and against their definitions on molecules by hand."""

import json
import logging
import math
from pathlib import Path

import pytest
import torch

from lidar_lightning.rewards import GuacaMol, Isomers, score
from lidar_lightning.rewards import guacamol as tasks
from lidar_lightning.runs.inputs import check_parts
from tests.conftest import tiny

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "guacamol.json").read_text())
SMALL = {"thymine_rediscovery", "median_small", "isomers_c5h5n3o"}


@pytest.mark.parametrize("task", GuacaMol.tasks())
def test_scores_are_those_of_the_package_guacamol(task):
    """100 drug-like molecules near the tasks' targets, and 100 of QM9; see tests/golden/make_guacamol.py."""
    if task in SMALL:
        assert task not in GOLDEN["scores"]
        return
    found = score(GuacaMol(task), GOLDEN["smiles"], [""] * len(GOLDEN["smiles"]))
    torch.testing.assert_close(found, torch.tensor(GOLDEN["scores"][task]), atol=2e-5, rtol=1e-4)
    assert found.max() > 0.01, "the molecules say something of every task"


@pytest.mark.parametrize(
    ("task", "best"),
    [
        ("celecoxib_rediscovery", tasks.CELECOXIB),
        ("troglitazone_rediscovery", tasks.TROGLITAZONE),
        ("thiothixene_rediscovery", tasks.THIOTHIXENE),
        ("aripiprazole_similarity", tasks.ARIPIPRAZOLE),
        ("albuterol_similarity", tasks.ALBUTEROL),
        ("mestranol_similarity", tasks.MESTRANOL),
        ("thymine_rediscovery", tasks.THYMINE),
        ("isomers_c11h24", "CC(C)CC(C)(C)CCCC"),
        ("isomers_c7h8n2o2", "COc1ccc(C(N)=O)nc1"),
        ("isomers_c5h5n3o", "NC(=O)c1cnccn1"),
    ],
)
def test_what_is_sought_scores_one(task, best):
    assert score(GuacaMol(task), [best, "not one("], [""] * 2).tolist() == [1, 0]


def test_isomers_by_hand():
    """Pentane, C5H12, against C4H10: one carbon, two hydrogens and three atoms too many."""
    wanted = (math.exp(-1 / 2) * math.exp(-4 / 2) * math.exp(-9 / 8)) ** (1 / 3)
    assert score(Isomers("C4H10"), ["CCCCC", "CC(C)C"], [""] * 2).tolist() == pytest.approx([wanted, 1])
    for formula in ("c4h10", "C0", ""):
        with pytest.raises(ValueError, match=f"'{formula}' is no molecular formula"):
            Isomers(formula)
    with pytest.raises(ValueError, match="no chemical element 'Xx'"):
        Isomers("Xx2")


def test_a_median_is_between_its_two_molecules():
    thymine, histamine, other = score(GuacaMol("median_small"), [tasks.THYMINE, tasks.HISTAMINE, "CCCC"], [""] * 3)
    assert thymine == pytest.approx(histamine.item()) and 0 < thymine < 1 and other < thymine


def test_an_unknown_task_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="no task of GuacaMol 'osimertinib': did you mean osimertinib_mpo"):
        GuacaMol("osimertinib")


def test_tasks_say_how_large_their_molecules_are(caplog):
    """Those of nine heavy atoms are for models of QM9; for the others there is a warning, once a run."""
    assert {task: GuacaMol(task).needs_atoms for task in SMALL} == dict.fromkeys(SMALL, 9)
    assert GuacaMol("qed").needs_atoms == 0 and GuacaMol("celecoxib_rediscovery").needs_atoms == 26
    model = tiny()
    with caplog.at_level(logging.WARNING, logger="lidar_lightning"):
        check_parts(model, GuacaMol("celecoxib_rediscovery"))
        model.name = "udlm-qm9-small"
        check_parts(model, GuacaMol("thymine_rediscovery"))
        assert not caplog.messages
        check_parts(model, GuacaMol("celecoxib_rediscovery"))
    (said,) = caplog.messages
    assert "'celecoxib_rediscovery' asks for molecules of 26 heavy atoms, and udlm-qm9-small draws at most 9" in said
