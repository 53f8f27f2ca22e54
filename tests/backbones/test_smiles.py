"""SMILES as tokens and back."""

import pytest

from lidar_lightning.backbones import smiles


def test_smiles_round_trip():
    strings = ["C", "C[NH2+]CC([O-])=O", "c1cc[nH]c1", "C#CC1(C)CN1"]
    tokens = smiles.tokens_of(strings, 24)
    assert tokens.shape == (4, 24) and tokens[:, 0].eq(smiles.BOS).all() and smiles.decode(tokens) == strings
    assert tokens[0].tolist() == [0, smiles.VOCABULARY.index("C"), 1] + [3] * 21


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "empty"), ("CBr", "tokens outside the vocabulary: Br"), ("C" * 23, "23 tokens, but at most 22")],
)
def test_unreadable_smiles_are_explained(text, reason):
    assert reason in smiles.unreadable(text, 24)
    with pytest.raises(ValueError, match="cannot encode the SMILES"):
        smiles.tokens_of([text], 24)
