"""Absorption, distribution, metabolism, excretion and toxicity, as predicted by the networks that admet-ai ships."""

from collections.abc import Sequence
from functools import cache
from importlib import metadata, util
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rdkit import Chem

from lidar_lightning.rewards.molecules import MoleculeReward
from lidar_lightning.utils.choices import check_choice

RANGES = {
    "Caco2_Wang": (-10, -3), "Clearance_Hepatocyte_AZ": (-50, 350), "Clearance_Microsome_AZ": (-50, 500),
    "Half_Life_Obach": (-50, 500), "HydrationFreeEnergy_FreeSolv": (-50, 5), "LD50_Zhu": (0, 15),
    "Lipophilicity_AstraZeneca": (-10, 10), "PPBR_AZ": (-10, 130), "Solubility_AqSolDB": (-12, 3),
    "VDss_Lombardo": (-10, 120),
}  # fmt: skip
"""Where predictions for molecules of QM9 and most drugs lie; those of classes are probabilities, in [0, 1]."""
AVOIDED = ("LD50_Zhu", "Pgp_Broccatelli")
KEPT = 100_000
"""Molecules whose predictions are kept: rewards that share networks, and samplers that ask twice, pay once."""


class ADMET(MoleculeReward):
    """One of the 41 endpoints of ADMET-AI by its name there, such as "Solubility_AqSolDB" in log10(mol/L) or "hERG".

    The mean of five Chemprop networks, trained on the data sets of Therapeutics Data Commons, on the CPU and in this
    process, rounded to 4 decimals so that the other molecules of a batch do not show. `ADMET.endpoints()` lists names
    and units; those of toxicity and of inhibition, probabilities, are better when lower. Source: Swanson et al.,
    Bioinformatics 40(7), 2024.

    Args:
        endpoint: its name; it is the name of the reward too.
        higher_is_better: what is wanted of it; None: False for toxicity and inhibition, True for the others.
        floor: score of invalid strings; None takes the worse end of where predictions lie.

    Raises:
        ValueError: for an unknown endpoint, with the nearest ones.
        ImportError: without admet-ai.
    """

    def __init__(self, endpoint: str, higher_is_better: bool | None = None, floor: float | None = None):
        table = endpoints()
        self.name = check_choice("endpoint of ADMET-AI", endpoint, table.index)
        row = table.loc[endpoint]
        avoided = row["category"] == "Toxicity" or "Inhibition" in row["name"] or endpoint in AVOIDED
        self.higher_is_better = not avoided if higher_is_better is None else higher_is_better
        worst = RANGES.get(endpoint, (0, 1))[0 if self.higher_is_better else 1]
        super().__init__(worst if floor is None else floor)
        self.task, self.version = row["task_type"], f"{self.version}, admet-ai {metadata.version('admet-ai')}"

    @staticmethod
    def endpoints() -> dict[str, str]:
        """Name to what it is, with its unit."""
        table = endpoints()
        return {str(name): f"{row['name']} ({row['units']})".replace(" (-)", "") for name, row in table.iterrows()}

    def value(self, mol: Chem.Mol) -> float:
        return self.values([mol])[0]

    def values(self, molecules: Sequence[Chem.Mol]) -> list[float]:
        return networks(self.task).predict(self.name, molecules)


@cache
def resources() -> Path:
    """The files of admet-ai, whose own import is not needed. Raises ImportError without it."""
    found = util.find_spec("admet_ai")
    if not found or not found.submodule_search_locations or not util.find_spec("chemprop"):
        raise ImportError("ADMET rewards need admet-ai: pip install 'lidar-lightning[admet]'")
    return Path(found.submodule_search_locations[0]) / "resources"


@cache
def endpoints() -> pd.DataFrame:
    """The endpoints that networks predict, by name, with category, name, units and task_type."""
    table = pd.read_csv(resources() / "data" / "admet.csv", keep_default_na=False).set_index("id")
    return table[table["category"] != "Physicochemical"]


@cache
def networks(task: str) -> "Networks":
    """Those for a type of task, "classification" or "regression", loaded once."""
    return Networks(resources() / "models" / f"admet_{task}")


class Networks:
    """Five Chemprop networks that predict several endpoints together.

    Args:
        folder: of their files.
    """

    def __init__(self, folder: Path):
        from chemprop.models import load_model
        from chemprop.models.utils import load_output_columns

        files = sorted(folder.glob("*.pt"))
        self.models: list[Any] = [load_model(file, multicomponent=False).eval() for file in files]
        self.columns: list[str] = load_output_columns(files[0])
        self.known: dict[str, list[float]] = {}

    def predict(self, endpoint: str, molecules: Sequence[Chem.Mol], batch_size: int = 64) -> list[float]:
        """The endpoint for each molecule, in order."""
        keys = [Chem.MolToSmiles(mol) for mol in molecules]
        unknown = {key: mol for key, mol in zip(keys, molecules, strict=True) if key not in self.known}
        if len(self.known) + len(unknown) > KEPT:
            self.known.clear()
            unknown = dict(zip(keys, molecules, strict=True))
        names = list(unknown)
        for first in range(0, len(names), batch_size):
            some = names[first : first + batch_size]
            self.known |= dict(zip(some, self.forward([unknown[name] for name in some]), strict=True))
        column = self.columns.index(endpoint)
        return [self.known[key][column] for key in keys]

    @torch.inference_mode()
    def forward(self, molecules: Sequence[Chem.Mol]) -> list[list[float]]:
        """All endpoints of these molecules: (n, columns)."""
        from chemprop.data import MoleculeDatapoint, MoleculeDataset
        from chemprop.data.collate import collate_batch

        data = MoleculeDataset([MoleculeDatapoint(mol=mol) for mol in molecules])
        batch = collate_batch([data[place] for place in range(len(data))])
        found = torch.stack([model(batch.bmg, batch.V_d, batch.X_d) for model in self.models]).mean(0)
        return [[round(value, 4) for value in row] for row in found.tolist()]
