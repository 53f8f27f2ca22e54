"""Rewards of molecules given as SMILES strings, computed by RDKit."""

import logging
from abc import abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import torch
from rdkit import Chem, rdBase
from rdkit.Chem import QED as qed_module
from rdkit.Chem import rdMolDescriptors
from torch import Tensor

from lidar_lightning.rewards.base import Reward, check_floor

log = logging.getLogger(__name__)


def parse(smiles: str) -> Chem.Mol | None:
    """The molecule, or None if the string is empty or RDKit refuses it (quietly: its log is blocked meanwhile)."""
    if not smiles:
        return None
    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(smiles)


class MoleculeReward(Reward):
    """A property of one molecule; strings that are no molecule score the floor.

    A subclass names itself, implements `value` (or `values`, where many at once are faster), and raises `revision` when
    its values change. The floor is part of the version, because stored scores of invalid strings depend on it.

    Args:
        floor: score of invalid strings, finite. It should be no better than the worst molecule worth having.

    Attributes:
        needs_atoms: heavy atoms of the molecules that it asks for; 0 if those of any size can score well.

    Raises:
        ValueError: if the floor is not finite.
    """

    modality = "molecule"
    revision: ClassVar[int] = 1
    needs_atoms: int = 0

    def __init__(self, floor: float = 0.0):
        self.floor = check_floor(floor)
        self.version = f"{self.revision}, floor={self.floor}"

    @abstractmethod
    def value(self, mol: Chem.Mol) -> float:
        """The property of one valid molecule."""

    def values(self, molecules: Sequence[Chem.Mol]) -> Sequence[float]:
        """The property of each valid molecule."""
        return [float(self.value(mol)) for mol in molecules]

    def __call__(self, samples: Sequence[str], prompts: Sequence[str]) -> Tensor:
        """Scores (n,) float32 of n SMILES strings; prompts are not looked at. Logs how many are invalid.

        Raises:
            ValueError: if the samples are not strings.
        """
        if isinstance(samples, str) or not all(isinstance(text, str) for text in samples):
            raise ValueError(
                f"reward {self.name!r} scores molecules, a list of SMILES strings, got {type(samples).__name__}: "
                f"decode the samples first, or choose a reward for them"
            )
        molecules = [parse(text) for text in samples]
        invalid = sum(mol is None for mol in molecules)
        counts = f"{invalid} of {len(samples)} molecules are invalid"
        log.debug("reward %s: %s, scored floor=%s", self.name, counts, self.floor)
        values = iter(self.values([mol for mol in molecules if mol is not None]))
        return torch.tensor([self.floor if mol is None else next(values) for mol in molecules])


class RingCount(MoleculeReward):
    """Number of rings in the symmetrised smallest set, as the published UDLM evaluation counts them; floor 0."""

    name = "ring_count"

    def value(self, mol: Chem.Mol) -> float:
        return len(Chem.GetSymmSSSR(mol))


class QED(MoleculeReward):
    """Quantitative estimate of drug-likeness in [0, 1] (Bickerton et al. 2012); floor 0, its lower bound."""

    name = "qed"

    def value(self, mol: Chem.Mol) -> float:
        return qed_module.qed(mol)


class LogP(MoleculeReward):
    """Crippen's octanol-water partition coefficient (Wildman and Crippen 1999).

    Args:
        floor: score of invalid strings; -5 lies just below the molecules of QM9, which range from -4.9 to 3.5.
    """

    name = "logp"

    def __init__(self, floor: float = -5.0):
        super().__init__(floor)

    def value(self, mol: Chem.Mol) -> float:
        return rdMolDescriptors.CalcCrippenDescriptors(mol)[0]


class SyntheticAccessibility(MoleculeReward):
    """Synthetic accessibility from 1 (easy) to 10 (hard), lower is better (Ertl and Schuffenhauer 2009).

    Args:
        floor: score of invalid strings; 10 is the worst value.

    Raises:
        ImportError: if this build of RDKit has no Contrib folder.
    """

    name = "sa"
    higher_is_better = False

    def __init__(self, floor: float = 10.0):
        super().__init__(floor)
        try:
            from rdkit.Contrib.SA_Score import sascorer
        except ImportError as error:
            raise ImportError("reward 'sa' needs RDKit's Contrib folder: install RDKit from PyPI") from error
        self.score_molecule = sascorer.calculateScore

    def value(self, mol: Chem.Mol) -> float:
        return self.score_molecule(mol)


class HeavyAtoms(MoleculeReward):
    """Number of atoms other than hydrogen; floor 0."""

    name = "heavy_atoms"

    def value(self, mol: Chem.Mol) -> float:
        return mol.GetNumHeavyAtoms()


class ElementCount(MoleculeReward):
    """Number of atoms of one element, implicit hydrogens included; its name is "count_" and the element.

    Args:
        element: symbol, such as "N".
        floor: score of invalid strings.

    Raises:
        ValueError: if there is no such element.
    """

    def __init__(self, element: str = "N", floor: float = 0.0):
        super().__init__(floor)
        table = Chem.GetPeriodicTable()
        symbols = {table.GetElementSymbol(number): number for number in range(1, 119)}
        if element not in symbols:
            raise ValueError(f"there is no chemical element {element!r}: give a symbol such as 'N' or 'Cl'")
        self.name, self.number = f"count_{element}", symbols[element]

    def value(self, mol: Chem.Mol) -> float:
        atoms = (Chem.AddHs(mol) if self.number == 1 else mol).GetAtoms()
        return sum(atom.GetAtomicNum() == self.number for atom in atoms)


class Validity(MoleculeReward):
    """1 for every string that is a molecule; floor 0."""

    name = "validity"

    def value(self, mol: Chem.Mol) -> float:
        return 1.0
