"""Properties of molecules by the names that RDKit gives them, closeness to a formula, and the penalised logP."""

import math
import re

from rdkit import Chem
from rdkit.Chem import Descriptors, rdMolDescriptors

from lidar_lightning.rewards.molecules import ElementCount, MoleculeReward, SyntheticAccessibility
from lidar_lightning.utils.choices import check_choice

DESCRIPTORS = dict(Descriptors.descList)
ZINC = {"logp": (2.4570953396190123, 1.434324401111988), "sa": (-3.0525811293166134, 0.8335207024513095),
        "rings": (-0.0485696876403053, 0.2860212110245455)}  # fmt: skip
"""Mean and standard deviation over the 250,000 molecules of ZINC (You et al., arXiv 1806.02473)."""


class Descriptor(MoleculeReward):
    """A descriptor of RDKit by its name there, such as "TPSA", "MolWt", "NumHDonors" or "FractionCSP3".

    Args:
        descriptor: a name in `rdkit.Chem.Descriptors.descList`; it is the name of the reward too.
        higher_is_better: what is wanted of it; for a target value or a range see `Peak`, `Ramp` and `Step`.
        floor: score of invalid strings, and of molecules for which the descriptor is not finite.

    Raises:
        ValueError: for an unknown name, with the nearest ones.
    """

    def __init__(self, descriptor: str, higher_is_better: bool = True, floor: float = 0.0):
        super().__init__(floor)
        self.name = check_choice("descriptor of RDKit", descriptor, DESCRIPTORS)
        self.higher_is_better, self.function = higher_is_better, DESCRIPTORS[descriptor]

    def value(self, mol: Chem.Mol) -> float:
        found = float(self.function(mol))
        return found if math.isfinite(found) else self.floor


class Isomers(MoleculeReward):
    """Closeness to a molecular formula in [0, 1]; 1 for its isomers (Brown et al., GuacaMol, arXiv 1811.09621).

    The geometric mean of exp(-(n_e - N_e)^2 / 2) over the elements e of the formula, and of exp(-(n - N)^2 / 8) of the
    number of all atoms n, with hydrogens.

    Args:
        formula: such as "C7H8N2O2"; it names the reward, as "isomers_c7h8n2o2".
        floor: score of invalid strings.

    Raises:
        ValueError: if this is no formula, or of an element that there is not.
    """

    def __init__(self, formula: str, floor: float = 0.0):
        super().__init__(floor)
        if not re.fullmatch(r"([A-Z][a-z]?([1-9]\d*)?)+", formula):
            raise ValueError(f"{formula!r} is no molecular formula: write elements and their numbers, as in 'C7H8N2O2'")
        found = [(element, int(count or 1)) for element, count in re.findall(r"([A-Z][a-z]?)(\d*)", formula)]
        self.name, self.atoms = f"isomers_{formula.lower()}", sum(count for _, count in found)
        self.elements = [(ElementCount(element), count) for element, count in found]
        self.needs_atoms = sum(count for element, count in found if element != "H")

    def value(self, mol: Chem.Mol) -> float:
        whole = Chem.AddHs(mol)
        penalty = sum((counter.value(whole) - count) ** 2 / 2 for counter, count in self.elements)
        penalty += (whole.GetNumAtoms() - self.atoms) ** 2 / 8
        return math.exp(-penalty / (len(self.elements) + 1))


class PenalizedLogP(MoleculeReward):
    """Crippen's logP - SA - max(0, atoms of the largest ring - 6), each on the scale of ZINC (Jin et al., 1802.04364).

    Rings are those of the smallest set, which every spelling of a molecule shares; code that takes a cycle basis of the
    graph instead may find larger ones in fused rings, and so lower scores.

    Args:
        normalised: subtract the mean of each term over ZINC and divide by its standard deviation, as the published
            benchmarks do; False takes the terms as they are.
        floor: score of invalid strings; -15 lies below the molecules of QM9.
    """

    name = "penalized_logp"

    def __init__(self, normalised: bool = True, floor: float = -15.0):
        super().__init__(floor)
        self.version += f", normalised={normalised}"
        self.scale = ZINC if normalised else dict.fromkeys(ZINC, (0.0, 1.0))
        self.accessibility = SyntheticAccessibility()

    def value(self, mol: Chem.Mol) -> float:
        largest = max((len(ring) for ring in mol.GetRingInfo().AtomRings()), default=0)
        terms = {
            "logp": rdMolDescriptors.CalcCrippenDescriptors(mol)[0],
            "sa": -self.accessibility.value(mol),
            "rings": -max(0, largest - 6),
        }
        return sum((terms[name] - mean) / std for name, (mean, std) in self.scale.items())
