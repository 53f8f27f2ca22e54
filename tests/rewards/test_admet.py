"""ADMET endpoints against admet-ai's own way to predict them."""

import importlib.util
import sys

import pytest
import torch

pytest.importorskip("admet_ai", reason="the extra admet is not installed")

from lidar_lightning.rewards import ADMET, admet, score

STRINGS = ["CCO", "c1ccccc1O", "CC(=O)Oc1ccccc1C(=O)O", "CCCCCCCCCC", "CN1C=NC2=C1C(=O)N(C)C(=O)N2C", "C1CC", ""]


@pytest.fixture(scope="module")
def published():
    """Predictions of `ADMETModel` for the molecules among the strings, by endpoint."""
    from admet_ai import ADMETModel

    return ADMETModel(include_physchem=False, drugbank_path=None, num_workers=0).predict(STRINGS[:5])


def test_there_are_41_endpoints_with_units():
    found = ADMET.endpoints()
    assert len(found) == 41 and found["Solubility_AqSolDB"] == "Aqueous Solubility (log(mol/L))"
    assert found["hERG"] == "hERG Blocking"


@pytest.mark.parametrize(("endpoint", "higher", "floor"), [("Solubility_AqSolDB", True, -12), ("hERG", False, 1)])
def test_predictions_are_those_of_admet_ai(published, endpoint, higher, floor):
    reward = ADMET(endpoint)
    found = score(reward, STRINGS, [""] * len(STRINGS))
    torch.testing.assert_close(found[:5], torch.tensor(published[endpoint].to_numpy()).float(), atol=6e-5, rtol=0)
    assert found[5:].tolist() == [floor] * 2 and reward.higher_is_better is higher and reward.name == endpoint
    assert "admet-ai 2" in reward.identity


def test_facts_of_chemistry():
    soluble = score(ADMET("Solubility_AqSolDB"), STRINGS, [""] * len(STRINGS))
    assert soluble[0] > soluble[2] > soluble[3], "ethanol, aspirin, decane"


def test_every_endpoint_scores_and_says_what_is_wanted():
    for name in ADMET.endpoints():
        reward = ADMET(name)
        (value,) = score(reward, ["c1ccccc1O"], [""]).tolist()
        assert (value >= reward.floor) == reward.higher_is_better, name
    assert not ADMET("AMES").higher_is_better and not ADMET("CYP2D6_Veith").higher_is_better
    assert ADMET("BBB_Martins").higher_is_better and ADMET("hERG", higher_is_better=True).floor == 0


def test_other_molecules_and_memory_do_not_show(monkeypatch):
    reward = ADMET("Lipophilicity_AstraZeneca")
    together = score(reward, STRINGS[:5], [""] * 5).tolist()
    networks = admet.networks("regression")
    monkeypatch.setattr(admet, "KEPT", 3)
    monkeypatch.setattr(networks, "known", {})
    alone = [score(reward, [text], [""]).item() for text in STRINGS[:5]]
    assert alone == together and len(networks.known) <= 3


def test_it_is_quiet(capfd):
    score(ADMET("AMES"), ["CCN", "CCCN"], ["", ""])
    assert capfd.readouterr() == ("", "")


def test_an_unknown_endpoint_is_answered_with_the_nearest():
    with pytest.raises(ValueError, match="no endpoint of ADMET-AI 'solubility': did you mean Solubility_AqSolDB"):
        ADMET("solubility")


def test_without_admet_ai_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    admet.resources.cache_clear()
    with pytest.raises(ImportError, match=r"pip install 'lidar-lightning\[admet\]'"):
        admet.resources()
    assert "admet_ai" in sys.modules
