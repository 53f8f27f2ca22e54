"""Similarity, substructures, scaffolds, descriptors and penalised logP, against counts by hand and other code."""

import pytest
import torch
from rdkit import Chem
from rdkit.Chem import AllChem, Crippen, rdMolDescriptors
from rdkit.Contrib.SA_Score import sascorer
from rdkit.DataStructs import TanimotoSimilarity

from lidar_lightning.rewards import (
    Descriptor,
    PenalizedLogP,
    ScaffoldKept,
    Similarity,
    Substructure,
    SyntheticAccessibility,
    score,
)
from lidar_lightning.utils.smiles_io import read_smiles

SOME = read_smiles()[::4000]
ASPIRIN = "CC(=O)Oc1ccccc1C(=O)O"


def scores(reward, strings):
    return score(reward, strings, [""] * len(strings)).tolist()


def test_similarity_of_counts_is_smaller_counts_over_larger():
    """By hand, from environments and how often each is there."""
    generator = AllChem.GetMorganGenerator(radius=2)
    one, other = (generator.GetSparseCountFingerprint(Chem.MolFromSmiles(s)).GetNonzeroElements() for s in SOME[8:10])
    smaller = sum(min(count, other.get(key, 0)) for key, count in one.items())
    assert scores(Similarity(SOME[8]), [SOME[9]]) == pytest.approx(
        [
            smaller
            / (
                sum((one | other).values())
                + sum(max(0, count - other[key]) for key, count in one.items() if key in other)
            )
        ]
    )
    assert scores(Similarity(SOME[8]), [SOME[8], "", "C1CC"]) == [1, 0, 0]


@pytest.mark.parametrize(
    ("fingerprint", "independent"),
    [
        ("ECFP4-bits", lambda mol: AllChem.GetMorganFingerprintAsBitVect(mol, 2, 2048)),
        ("ECFP6", lambda mol: AllChem.GetMorganFingerprint(mol, 3)),
        ("FCFP4", lambda mol: AllChem.GetMorganFingerprint(mol, 2, useFeatures=True)),
        ("AP", lambda mol: AllChem.GetAtomPairFingerprint(mol, maxLength=10)),
    ],
)
def test_fingerprints_are_those_of_rdkits_older_functions(fingerprint, independent):
    target = independent(Chem.MolFromSmiles(ASPIRIN))
    wanted = [TanimotoSimilarity(independent(Chem.MolFromSmiles(text)), target) for text in SOME]
    assert scores(Similarity(ASPIRIN, fingerprint), SOME) == pytest.approx(wanted) and max(wanted) > 0


def test_spelling_does_not_matter():
    for reward in (Similarity("OCC"), Substructure("[OX2H]"), PenalizedLogP(), Descriptor("TPSA")):
        assert len(set(scores(reward, ["CCO", "OCC", "C(O)C"]))) == 1


def test_substructures():
    acid = "C(=O)[OX2H1]"
    assert scores(Substructure(acid), [ASPIRIN, "CCO", "C1CC"]) == [1, 0, 0]
    assert scores(Substructure(acid, present=False), [ASPIRIN, "CCO", "C1CC"]) == [0, 1, 0]
    assert Substructure(acid).name == f"has({acid})" and Substructure(acid, False, name="no acid").name == "no acid"
    for wrong in ("", "C(", "nonsense"):
        with pytest.raises(ValueError, match="is no SMARTS pattern"):
            Substructure(wrong)


def test_a_scaffold_is_kept_or_held():
    kept, held = ScaffoldKept("Cc1ccccc1O"), ScaffoldKept("Cc1ccccc1O", exact=False)
    assert kept.name == "scaffold(c1ccccc1)"
    strings = [ASPIRIN, "c1ccc(Cc2ccccc2)cc1", "C1CCCCC1", "CCO", ""]
    assert scores(kept, strings) == [1, 0, 0, 0, 0] and scores(held, strings) == [1, 1, 0, 0, 0]
    assert kept.identity != held.identity
    with pytest.raises(ValueError, match="'CCO' has no ring, and so no scaffold"):
        ScaffoldKept("CCO")


def test_descriptors_by_name():
    assert scores(Descriptor("NumHDonors"), ["OCC(O)CO", "CCC", "C1CC"]) == [3, 0, 0]
    assert scores(Descriptor("MolWt", higher_is_better=False, floor=500), ["O", ""]) == pytest.approx([18.015, 500])
    with pytest.raises(ValueError, match="no descriptor of RDKit 'tpsa': did you mean TPSA"):
        Descriptor("tpsa")


def test_penalised_logp_is_its_formula():
    strings = [*SOME, "C1CCCCCCC1", "c1ccc2ccccc2c1"]
    for text, plain, scaled in zip(
        strings, scores(PenalizedLogP(False), strings), scores(PenalizedLogP(), strings), strict=True
    ):
        mol = Chem.MolFromSmiles(text)
        logp, sa = Crippen.MolLogP(mol), sascorer.calculateScore(mol)
        ring = max([0, *(len(ring) - 6 for ring in Chem.GetSymmSSSR(mol))])
        assert plain == pytest.approx(logp - sa - ring, abs=1e-4)
        published = (logp - 2.4570953) / 1.4343244 + (3.0525811 - sa) / 0.8335207 + (0.0485697 - ring) / 0.2860212
        assert scaled == pytest.approx(published, abs=1e-4)
    assert scores(PenalizedLogP(), [""]) == [-15] and min(scores(PenalizedLogP(), SOME)) > -15
    eight = scores(PenalizedLogP(False), ["C1CCCCCCC1"])[0] + scores(SyntheticAccessibility(), ["C1CCCCCCC1"])[0]
    assert eight == pytest.approx(rdMolDescriptors.CalcCrippenDescriptors(Chem.MolFromSmiles("C1CCCCCCC1"))[0] - 2)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Similarity("CCO", name="like"), Similarity("CCN", name="like")),
        (Similarity("CCO", name="like"), Similarity("CCO", "AP", name="like")),
        (Substructure("CO", name="part"), Substructure("CN", name="part")),
        (Substructure("CO", name="part"), Substructure("CO", False, name="part")),
        (PenalizedLogP(), PenalizedLogP(False)),
        (Descriptor("TPSA"), Descriptor("TPSA", floor=-1)),
    ],
)
def test_stored_scores_are_told_apart(one, other):
    assert one.name == other.name and one.identity != other.identity


@pytest.mark.parametrize("make", [lambda: Similarity("C1CC"), lambda: Similarity(""), lambda: ScaffoldKept("(")])
def test_what_is_no_molecule_is_refused(make):
    with pytest.raises(ValueError, match="must be the SMILES string of a molecule, got"):
        make()
    with pytest.raises(ValueError, match="no fingerprint 'MACCS': choose one of ECFP4"):
        Similarity("CCO", "MACCS")


def test_a_batch_changes_nothing():
    reward = Similarity(ASPIRIN)
    assert scores(reward, SOME) == [scores(reward, [text])[0] for text in SOME]
    assert torch.equal(score(reward, SOME[::-1], [""] * len(SOME)).flip(0), score(reward, SOME, [""] * len(SOME)))
