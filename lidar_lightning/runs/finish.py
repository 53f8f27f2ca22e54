"""What is written at the end of a run: tables, pictures, the best lookaheads, summary and report of all samples."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from lidar_lightning.backbones import Backbone, MoleculeBackbone
from lidar_lightning.backbones.constraint import count_violations
from lidar_lightning.lookahead import LookaheadBank
from lidar_lightning.rewards import Reward, utility
from lidar_lightning.runs.folder import RunFolder
from lidar_lightning.runs.parts import Part
from lidar_lightning.runs.report import write_report
from lidar_lightning.runs.summary import all_scores, summarise, with_reward
from lidar_lightning.utils.tables import write_csv

SHOWN_LOOKAHEADS = 4


def finish(
    run: RunFolder,
    parts: Sequence[Part],
    reward: Reward,
    banks: Sequence[LookaheadBank],
    backbone: Backbone,
    evaluations: tuple[int, int],
    settings: Mapping[str, Any],
    training_data: str | None = None,
) -> dict[str, float]:
    """Writes everything that comes after the last sample, and returns the numbers of the summary.

    Args:
        run: the folder of the run.
        parts: all samples, one part for each prompt.
        reward: the guiding reward.
        banks: one bank for each prompt; none for a sampler without lookahead.
        backbone: the model that drew the samples.
        evaluations: how often the network is evaluated in one call of the model, and in one of what draws lookaheads.
        settings: the settings of the run, see `SamplingModule.settings`.
        training_data: the SMILES file against which novelty is measured; None takes QM9.

    Returns:
        What `summarise` does; of a model that keeps tokens also violations, see `count_violations`.
    """
    parts = with_reward(parts, reward)
    run.write(parts)
    write_lookaheads(run, banks, reward, backbone)
    write_bank_scores(run, banks, reward, backbone)
    numbers = summarise(parts, reward, banks, backbone.modality, training_data, evaluations)
    if isinstance(backbone, MoleculeBackbone) and backbone.keep is not None:
        numbers["violations"] = float(count_violations([text for part in parts for text in part.decoded]))
    run.write_summary(
        {
            "methods": {settings["method"]: numbers},
            "reward_name": reward.name,
            "higher_is_better": reward.higher_is_better,
            "objectives": objectives(reward),
            "modality": backbone.modality,
            "settings": settings,
        }
    )
    write_report(run.folder)
    return numbers


def write_lookaheads(run: RunFolder, banks: Sequence[LookaheadBank], reward: Reward, backbone: Backbone) -> None:
    """Writes lookaheads.csv (prompt, rank, sample, reward) with the best of each bank first, and their pictures."""
    rows = []
    for bank in banks:
        utilities = reward.from_scores(bank.rewards)
        best = utilities.topk(min(SHOWN_LOOKAHEADS, len(bank.samples))).indices
        scores = utility(reward, utilities)[best].tolist()
        prompt, decoded = bank.provenance.prompt, backbone.decode(bank.samples[best])
        names = run.put_lookaheads(prompt, decoded) if backbone.modality == "image" else decoded
        rows += [
            {"prompt": prompt, "rank": rank, "sample": name, "reward": score}
            for rank, (name, score) in enumerate(zip(names, scores, strict=True))
        ]
    if rows:
        write_csv(run.folder / "lookaheads.csv", pd.DataFrame(rows))


def write_bank_scores(run: RunFolder, banks: Sequence[LookaheadBank], reward: Reward, backbone: Backbone) -> None:
    """Writes lookahead_scores.csv (prompt, of molecules sample, one column per reward) with all members of the banks.

    They show each reward before guidance. A reward that is relative to what it is scored with is left out.
    """
    tables = []
    for bank in banks:
        scores = all_scores(bank.rewards, reward)
        if reward.relative:
            scores.pop(reward.name, None)
        of = {"sample": backbone.decode(bank.samples)} if backbone.modality == "molecule" else {}
        columns = {name: value.tolist() for name, value in scores.items()}
        tables.append(pd.DataFrame({"prompt": bank.provenance.prompt, **of, **columns}))
    if tables:
        write_csv(run.folder / "lookahead_scores.csv", pd.concat(tables))


def objectives(reward: Reward) -> dict[str, bool]:
    """The rewards that the guiding one weighs, by name, and whether higher is better; none if it is a single one."""
    return {one.name: one.higher_is_better for one in reward.components} if len(reward.components) > 1 else {}
