"""Metrics of generated molecules, by the published definitions and by canonical ones side by side."""

from collections.abc import Collection, Sequence
from functools import cache, lru_cache
from statistics import fmean

import rdkit
from rdkit import Chem
from torch import Tensor

from lidar_lightning.rewards.molecules import RingCount, parse
from lidar_lightning.utils.smiles_io import read_smiles

QM9_CANONICAL_BY = "2026.09"
"""The RDKit by which the QM9 strings that ship are canonical."""


def molecule_metrics(
    strings: Sequence[str], training: Collection[str], reward_scores: Tensor | None = None
) -> dict[str, float]:
    """Validity, uniqueness, novelty, ring counts and rewards of n generated SMILES strings.

    The published evaluation of UDLM (guidance_eval/qm9_eval.py, arXiv 2412.10193) compares strings as they were
    generated, so that two spellings of one molecule are two molecules:

        valid = |V| / n,  unique = |set(V)| / |V|,  novel = |set(V) - training| / |V|,  V = strings that parse, nonempty

    The `canonical_` metrics are the same after every string of V and of the training set is canonicalised by RDKit:
    they do not count another spelling as novel. 0 / 0 is 0, as published.

    Args:
        strings: all samples of one method, invalid ones included.
        training: the training set's SMILES strings. Their canonical forms are found once per training set and process,
            at about ten seconds for 130,000 of them; the QM9 strings that ship are canonical already.
        reward_scores: (n,) finite, as the reward gave them, or None.

    Returns:
        samples, valid, unique, novel, valid_count, novel_count = |set(V) - training|; canonical_unique,
        canonical_novel, canonical_novel_count; ring_count, the mean over V; novel_ring_count, the mean over
        set(V) - training; and with scores reward, the mean over all samples, and reward_valid, the mean over V.

    Raises:
        ValueError: if there is not one score per string.
    """
    if reward_scores is not None and reward_scores.shape != (len(strings),):
        raise ValueError(
            f"give one reward per string, got scores of shape {tuple(reward_scores.shape)} for {len(strings)} strings"
        )
    known, molecules = frozenset(training), [parse(text) for text in strings]
    valid = [(text, mol) for text, mol in zip(strings, molecules, strict=True) if mol is not None]
    count_rings = RingCount().value
    rings = {text: count_rings(mol) for text, mol in valid}
    novel = rings.keys() - known
    canonical = {Chem.MolToSmiles(mol) for _, mol in valid}
    canonical_novel = canonical - canonical_strings(known)
    metrics = {
        "samples": float(len(strings)),
        "valid": _ratio(len(valid), len(strings)),
        "unique": _ratio(len(rings), len(valid)),
        "novel": _ratio(len(novel), len(valid)),
        "valid_count": float(len(valid)),
        "novel_count": float(len(novel)),
        "canonical_unique": _ratio(len(canonical), len(valid)),
        "canonical_novel": _ratio(len(canonical_novel), len(valid)),
        "canonical_novel_count": float(len(canonical_novel)),
        "ring_count": _mean([rings[text] for text, _ in valid]),
        "novel_ring_count": _mean([rings[text] for text in novel]),
    }
    if reward_scores is not None:
        scores = reward_scores.tolist()
        metrics["reward"] = _mean(scores)
        metrics["reward_valid"] = _mean([s for s, mol in zip(scores, molecules, strict=True) if mol is not None])
    return metrics


@lru_cache(maxsize=4)
def canonical_strings(strings: frozenset[str]) -> frozenset[str]:
    """The canonical SMILES of those strings that are molecules. Those of QM9 that ship are so already."""
    if rdkit.__version__.startswith(QM9_CANONICAL_BY) and strings == shipped():
        return strings
    return frozenset(Chem.MolToSmiles(mol) for mol in map(parse, strings) if mol is not None)


@cache
def shipped() -> frozenset[str]:
    """The QM9 strings that ship."""
    return frozenset(read_smiles())


def training_strings(training_data: str | None = None) -> frozenset[str]:
    """The strings of a file of training molecules; None takes the QM9 strings that ship, which are read once."""
    return shipped() if training_data is None else frozenset(read_smiles(training_data))


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 0.0


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else 0.0
