"""The goal-directed tasks of GuacaMol and PMO as rewards by name, and three for molecules of nine heavy atoms.

From the published definitions: Brown et al., "GuacaMol", arXiv 1811.09621 (its second suite, and the trivial one), and
Gao et al., "Sample efficiency matters" (PMO), arXiv 2206.12411, which takes 19 of its 23 oracles from there. DRD2,
GSK3B and JNK3 of PMO are classifiers that have to be downloaded, and are not here.
"""

from collections.abc import Callable, Sequence

from rdkit import Chem

from lidar_lightning.rewards.base import Reward, score
from lidar_lightning.rewards.descriptors import DESCRIPTORS, Descriptor, Isomers
from lidar_lightning.rewards.mean import Mean
from lidar_lightning.rewards.molecules import QED, ElementCount, MoleculeReward
from lidar_lightning.rewards.shaping import Peak, Ramp
from lidar_lightning.rewards.similarity import Fingerprint, Similarity, Substructure, molecule
from lidar_lightning.utils.choices import check_choice

CELECOXIB = "CC1=CC=C(C=C1)C1=CC(=NN1C1=CC=C(C=C1)S(N)(=O)=O)C(F)(F)F"
TROGLITAZONE = "Cc1c(C)c2OC(C)(COc3ccc(CC4SC(=O)NC4=O)cc3)CCc2c(C)c1O"
THIOTHIXENE = "CN(C)S(=O)(=O)c1ccc2Sc3ccccc3C(=CCCN4CCN(C)CC4)c2c1"
ARIPIPRAZOLE = "Clc4cccc(N3CCN(CCCCOc2ccc1c(NC(=O)CC1)c2)CC3)c4Cl"
ALBUTEROL = "CC(C)(C)NCC(O)c1ccc(O)c(CO)c1"
MESTRANOL = "COc1ccc2[C@H]3CC[C@@]4(C)[C@@H](CC[C@@]4(O)C#C)[C@@H]3CCc2c1"
CAMPHOR, MENTHOL = "CC1(C)C2CCC1(C)C(=O)C2", "CC(C)C1CCC(C)CC1O"
TADALAFIL = "O=C1N(CC(N2C1CC3=C(C2C4=CC5=C(OCO5)C=C4)NC6=C3C=CC=C6)=O)C"
SILDENAFIL = "CCCC1=NN(C2=C1N=C(NC2=O)C3=C(C=CC(=C3)S(=O)(=O)N4CCN(CC4)C)OCC)C"
OSIMERTINIB = "COc1cc(N(C)CCN(C)C)c(NC(=O)C=C)cc1Nc2nccc(n2)c3cn(C)c4ccccc34"
FEXOFENADINE = "CC(C)(C(=O)O)c1ccc(cc1)C(O)CCCN2CCC(CC2)C(O)(c3ccccc3)c4ccccc4"
RANOLAZINE = "COc1ccccc1OCC(O)CN2CCN(CC(=O)Nc3c(C)cccc3C)CC2"
PERINDOPRIL = "O=C(OCC)C(NC(C(=O)N1C(C(=O)O)CC2CCCCC12)C)CCC"
AMLODIPINE = r"Clc1ccccc1C2C(=C(/N/C(=C2/C(=O)OCC)COCCN)C)\C(=O)OC"
SITAGLIPTIN = "Fc1cc(c(F)cc1F)CC(N)CC(=O)N3Cc2nnc(n2CC3)C(F)(F)F"
OTHER_SITAGLIPTIN = "NC(CC(=O)N1CCn2c(nnc2C(F)(F)F)C1)Cc1cc(F)c(F)cc1F"
ZALEPLON = "O=C(C)N(CC)C1=CC=CC(C2=CC=NC3=C(C=NN23)C#N)=C1"
PIOGLITAZONE = "O=C1NC(=O)SC1Cc3ccc(OCCc2ncc(cc2)CC)cc3"
QUINAZOLINE = "CCCOc1cc2ncnc(Nc3ccc4ncsc4c3)c2cc1S(=O)(=O)C(C)(C)C"
THYMINE, HISTAMINE = "Cc1c[nH]c(=O)[nH]c1=O", "NCCc1c[nH]cn1"
"""A nucleobase of nine heavy atoms, and a messenger of eight."""

SCAFFOLD = "[#7]-c1n[c;h1]nc2[c;h1]c(-[#8])[c;h0][c;h1]c12"
CHAIN = "[#6]-[#6]-[#6]-[#8]-[#6]~[#6]~[#6]~[#6]~[#6]-[#7]-c1ccc2ncsc2c1"


def like(smiles: str, fingerprint: Fingerprint, enough: float = 1.0) -> Reward:
    """Similarity, of which `enough` is worth 1."""
    similarity = Similarity(smiles, fingerprint)
    return similarity if enough == 1 else Ramp(similarity, 0.0, enough)


def unlike(smiles: str, fingerprint: Fingerprint, target: float) -> Reward:
    """Similarity above the target is worth less."""
    return Peak(Similarity(smiles, fingerprint), target, 0.1, "below")


def as_in(smiles: str, descriptor: str, width: float) -> Reward:
    """A descriptor that is to be as in a molecule."""
    return Peak(Descriptor(descriptor), DESCRIPTORS[descriptor](molecule(smiles, "the model")), width)


def at_most(descriptor: str, target: float, width: float) -> Reward:
    """A descriptor that is to be below a target."""
    return Peak(Descriptor(descriptor), target, width, "below")


def at_least(descriptor: str, target: float, width: float) -> Reward:
    """A descriptor that is to be above a target."""
    return Peak(Descriptor(descriptor), target, width, "above")


def average(*rewards: Reward) -> Reward:
    """The arithmetic mean."""
    return Mean(list(rewards), "arithmetic")


def product(*rewards: Reward) -> Reward:
    """The geometric mean."""
    return Mean(list(rewards))


TASKS: dict[str, tuple[str | None, Callable[[], Reward]]] = {
    "celecoxib_rediscovery": (CELECOXIB, lambda: like(CELECOXIB, "ECFP4")),
    "troglitazone_rediscovery": (TROGLITAZONE, lambda: like(TROGLITAZONE, "ECFP4")),
    "thiothixene_rediscovery": (THIOTHIXENE, lambda: like(THIOTHIXENE, "ECFP4")),
    "aripiprazole_similarity": (ARIPIPRAZOLE, lambda: like(ARIPIPRAZOLE, "ECFP4", 0.75)),
    "albuterol_similarity": (ALBUTEROL, lambda: like(ALBUTEROL, "FCFP4", 0.75)),
    "mestranol_similarity": (MESTRANOL, lambda: like(MESTRANOL, "AP", 0.75)),
    "isomers_c11h24": ("CCCCCCCCCCC", lambda: Isomers("C11H24")),
    "isomers_c9h10n2o2pf2cl": ("CC(F)(F)P(=O)(O)c1cnc(Cl)nc1C(C)C", lambda: Isomers("C9H10N2O2PF2Cl")),
    "isomers_c7h8n2o2": ("COc1ccc(C(N)=O)nc1", lambda: Isomers("C7H8N2O2")),
    "median1": (MENTHOL, lambda: product(like(MENTHOL, "ECFP4"), like(CAMPHOR, "ECFP4"))),
    "median2": (TADALAFIL, lambda: product(like(TADALAFIL, "ECFP6"), like(SILDENAFIL, "ECFP6"))),
    "osimertinib_mpo": (OSIMERTINIB, lambda: product(
        like(OSIMERTINIB, "FCFP4", 0.8), unlike(OSIMERTINIB, "ECFP6", 0.85),
        at_least("TPSA", 100, 10), at_most("MolLogP", 1, 1),
    )),
    "fexofenadine_mpo": (FEXOFENADINE, lambda: product(
        like(FEXOFENADINE, "AP", 0.8), at_least("TPSA", 90, 10), at_most("MolLogP", 4, 1),
    )),
    "ranolazine_mpo": (RANOLAZINE, lambda: product(
        like(RANOLAZINE, "AP", 0.7), at_least("MolLogP", 7, 1), at_least("TPSA", 95, 20), Peak(ElementCount("F"), 1, 1),
    )),
    "perindopril_mpo": (PERINDOPRIL, lambda: product(
        like(PERINDOPRIL, "ECFP4"), Peak(Descriptor("NumAromaticRings"), 2, 0.5),
    )),
    "amlodipine_mpo": (AMLODIPINE, lambda: product(like(AMLODIPINE, "ECFP4"), Peak(Descriptor("RingCount"), 3, 0.5))),
    "sitagliptin_mpo": (SITAGLIPTIN, lambda: product(
        Peak(Similarity(SITAGLIPTIN), 0, 0.1), as_in(SITAGLIPTIN, "MolLogP", 0.2), as_in(SITAGLIPTIN, "TPSA", 5),
        Isomers("C16H15F6N5O"),
    )),
    "zaleplon_mpo": (ZALEPLON, lambda: product(like(ZALEPLON, "ECFP4"), Isomers("C19H17N3O2"))),
    "valsartan_smarts": (OTHER_SITAGLIPTIN, lambda: product(
        Substructure("CN(C=O)Cc1ccc(c2ccccc2)cc1"), as_in(OTHER_SITAGLIPTIN, "MolLogP", 0.2),
        as_in(OTHER_SITAGLIPTIN, "TPSA", 5), as_in(OTHER_SITAGLIPTIN, "BertzCT", 30),
    )),
    "deco_hop": (QUINAZOLINE, lambda: average(
        like(QUINAZOLINE, "PHCO", 0.85), Substructure("CS([#6])(=O)=O", False),
        Substructure("[#7]-c1ccc2ncsc2c1", False), Substructure(SCAFFOLD),
    )),
    "scaffold_hop": (QUINAZOLINE, lambda: average(
        like(QUINAZOLINE, "PHCO", 0.75), Substructure(CHAIN), Substructure(SCAFFOLD, False),
    )),
    "pioglitazone_mpo": (PIOGLITAZONE, lambda: product(
        Peak(Similarity(PIOGLITAZONE), 0, 0.1), as_in(PIOGLITAZONE, "MolWt", 10),
        Peak(Descriptor("NumRotatableBonds"), 2, 0.5),
    )),
    "cns_mpo": (None, lambda: average(
        at_most("TPSA", 90, 30), at_least("TPSA", 40, 20), at_most("NumHDonors", 0, 2), at_most("MolLogP", 5, 1),
        at_most("MolWt", 360, 60),
    )),
    "logp_low": (None, lambda: Peak(Descriptor("MolLogP"), -1, 1)),
    "logp_high": ("CCCCCCCCCCCCCCCCCCCC", lambda: Peak(Descriptor("MolLogP"), 8, 1)),
    "tpsa_high": (None, lambda: Peak(Descriptor("TPSA"), 150, 20)),
    "qed": (None, QED),
    "thymine_rediscovery": (THYMINE, lambda: like(THYMINE, "ECFP4")),
    "median_small": (THYMINE, lambda: product(like(THYMINE, "ECFP4"), like(HISTAMINE, "ECFP4"))),
    "isomers_c5h5n3o": ("NC(=O)c1cnccn1", lambda: Isomers("C5H5N3O")),
}  # fmt: skip
"""Name to a molecule of the size that it needs (None: small ones can score well) and how it is made."""


class GuacaMol(MoleculeReward):
    """A goal-directed task in [0, 1] by its name, such as "osimertinib_mpo"; `GuacaMol.tasks()` lists them.

    "logp_low", "logp_high" and "tpsa_high" are the targets of -1, 8 and 150 in GuacaMol's trivial suite. Of nine heavy
    atoms, for models of QM9, are "qed", "thymine_rediscovery", "median_small" (of thymine and histamine) and
    "isomers_c5h5n3o" (among them pyrazinamide).

    Args:
        task: its name, which is that of the reward too.
        floor: score of invalid strings.

    Raises:
        ValueError: for an unknown task, with the nearest ones.
    """

    def __init__(self, task: str, floor: float = 0.0):
        super().__init__(floor)
        like, make = TASKS[check_choice("task of GuacaMol", task, TASKS)]
        self.name, self.objective = task, make()
        self.needs_atoms = molecule(like, task).GetNumHeavyAtoms() if like else 0

    @staticmethod
    def tasks() -> list[str]:
        """All names."""
        return list(TASKS)

    def value(self, mol: Chem.Mol) -> float:
        return self.values([mol])[0]

    def values(self, molecules: Sequence[Chem.Mol]) -> list[float]:
        strings = [Chem.MolToSmiles(mol) for mol in molecules]
        return score(self.objective, strings, [""] * len(strings)).tolist() if strings else []
