"""Similarity to a molecule, and parts of molecules that are to be kept or avoided."""

from collections.abc import Callable
from functools import cache
from typing import Any, Literal, get_args

from rdkit import Chem, rdBase
from rdkit.Chem import rdFingerprintGenerator
from rdkit.Chem.Scaffolds import MurckoScaffold
from rdkit.DataStructs import TanimotoSimilarity

from lidar_lightning.rewards.molecules import MoleculeReward, parse

Fingerprint = Literal["ECFP4", "ECFP6", "FCFP4", "FCFP6", "AP", "PHCO", "ECFP4-bits", "ECFP6-bits"]


@cache
def fingerprint_of(kind: Fingerprint) -> Callable[[Chem.Mol], Any]:
    """What makes the fingerprint of a molecule, as GuacaMol does (Brown et al., arXiv 1811.09621).

    ECFP and FCFP are counts of Morgan environments of radius 2 or 3, of atoms or of their features; "-bits" are folded
    into 2,048 bits, as is usual elsewhere. AP are counts of atom pairs at most 10 bonds apart, PHCO the bits of Gobbi's
    two-dimensional pharmacophores.
    """
    if kind == "PHCO":
        from rdkit.Chem.Pharm2D import Generate, Gobbi_Pharm2D

        return lambda mol: Generate.Gen2DFingerprint(mol, Gobbi_Pharm2D.factory)
    if kind == "AP":
        return rdFingerprintGenerator.GetAtomPairGenerator(maxDistance=10).GetSparseCountFingerprint
    features = rdFingerprintGenerator.GetMorganFeatureAtomInvGen() if kind.startswith("F") else None
    generator = rdFingerprintGenerator.GetMorganGenerator(
        int(kind[4]) // 2, fpSize=2048, atomInvariantsGenerator=features
    )
    return generator.GetFingerprint if kind.endswith("bits") else generator.GetSparseCountFingerprint


def molecule(smiles: str, what: str) -> Chem.Mol:
    """The molecule of a SMILES string. Raises ValueError, saying what it was to be, if there is none."""
    if (mol := parse(smiles)) is None:
        raise ValueError(f"{what} must be the SMILES string of a molecule, got {smiles!r}")
    return mol


class Similarity(MoleculeReward):
    """Tanimoto similarity to one molecule in [0, 1]; 1 for the molecule itself.

    Of counts it is the generalised one, the sum of the smaller counts over the sum of the larger.

    Args:
        smiles: the molecule.
        fingerprint: see `fingerprint_of`.
        name: of the reward; by default "similarity(...)" with the SMILES string, and the fingerprint if it is another.
        floor: score of invalid strings.

    Raises:
        ValueError: if this is no molecule, or the fingerprint is unknown.
    """

    def __init__(self, smiles: str, fingerprint: Fingerprint = "ECFP4", name: str | None = None, floor: float = 0.0):
        super().__init__(floor)
        if fingerprint not in get_args(Fingerprint):
            raise ValueError(f"no fingerprint {fingerprint!r}: choose one of {', '.join(get_args(Fingerprint))}")
        target = molecule(smiles, "what a Similarity is to")
        self.name = name or f"similarity({smiles}{'' if fingerprint == 'ECFP4' else f',{fingerprint}'})"
        self.version += f", {fingerprint} of {smiles}"
        self.kind, self.target = fingerprint, fingerprint_of(fingerprint)(target)

    def value(self, mol: Chem.Mol) -> float:
        return TanimotoSimilarity(fingerprint_of(self.kind)(mol), self.target)


class Substructure(MoleculeReward):
    """1 for molecules that hold a substructure, or that lack it, else 0.

    Args:
        smarts: the substructure, as a SMARTS pattern.
        present: whether it is wanted.
        name: of the reward; by default "has(...)" or "lacks(...)" with the pattern.
        floor: score of invalid strings.

    Raises:
        ValueError: if this is no SMARTS pattern.
    """

    def __init__(self, smarts: str, present: bool = True, name: str | None = None, floor: float = 0.0):
        super().__init__(floor)
        with rdBase.BlockLogs():
            pattern = Chem.MolFromSmarts(smarts) if smarts else None
        if pattern is None:
            raise ValueError(f"{smarts!r} is no SMARTS pattern: write one such as 'C(=O)[NX3]' or '[OX2H]'")
        self.pattern, self.present = pattern, present
        self.name = name or f"{'has' if present else 'lacks'}({smarts})"
        self.version += f", {smarts} {'present' if present else 'absent'}"

    def value(self, mol: Chem.Mol) -> float:
        return float(mol.HasSubstructMatch(self.pattern) == self.present)


class ScaffoldKept(MoleculeReward):
    """1 for molecules with the ring scaffold of a given one (Bemis and Murcko 1996), else 0.

    Args:
        smiles: the molecule whose scaffold is kept: its rings and what links them.
        exact: whether the scaffold must be all of theirs; False asks that they hold it.
        name: of the reward; by default "scaffold(...)" with the SMILES string of the scaffold.
        floor: score of invalid strings.

    Raises:
        ValueError: if this is no molecule, or it has no ring and so no scaffold.
    """

    def __init__(self, smiles: str, exact: bool = True, name: str | None = None, floor: float = 0.0):
        super().__init__(floor)
        self.scaffold = MurckoScaffold.GetScaffoldForMol(molecule(smiles, "whose scaffold is kept"))
        self.smiles = Chem.MolToSmiles(self.scaffold)
        if not self.smiles:
            raise ValueError(f"{smiles!r} has no ring, and so no scaffold: keep a Substructure, a SMARTS pattern")
        self.name, self.exact = name or f"scaffold({self.smiles})", exact
        self.version += f", {'' if exact else 'within '}{self.smiles}"

    def value(self, mol: Chem.Mol) -> float:
        if not self.exact:
            return float(mol.HasSubstructMatch(self.scaffold))
        return float(Chem.MolToSmiles(MurckoScaffold.GetScaffoldForMol(mol)) == self.smiles)
