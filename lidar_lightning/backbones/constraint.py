"""Constraints: tokens of a SMILES string that every sample keeps, in lookaheads and guided runs alike."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from rdkit import Chem, rdBase
from torch import Tensor

from lidar_lightning.backbones import smiles
from lidar_lightning.solvers.tokens import FREE

logger = logging.getLogger(__name__)
VIOLATION = "!"
"""What marks a molecule that lost the kept fragment; no SMILES string begins with it."""


@dataclass(frozen=True)
class Constraint:
    """What samples keep.

    Args:
        prefix: SMILES tokens with which every string begins, such as a scaffold.
        template: in its place, tokens among which each `*` is one that is free: "C1CC1**O". What follows it is free.
        length: SMILES tokens of every string, so that <eos> stands behind them; None leaves it free.
        fragment: SMARTS of a substructure that every molecule must hold; None takes the prefix, if it is a molecule. A
            string that is a molecule without it is handed on with a "!" in front, which makes it invalid: rewards give
            it their floor.

    Raises:
        ValueError: if nothing is kept, the kept tokens are unknown or do not fit, or the fragment cannot be read.
    """

    prefix: str = ""
    template: str = ""
    length: int | None = None
    fragment: str | None = None

    def __post_init__(self) -> None:
        if self.prefix and (self.template or "*" in self.prefix):
            raise ValueError(f"give either a prefix or, with * for free tokens, a template, got {self}")
        if not self.kept and self.length is None:
            raise ValueError("a constraint keeps something: give a prefix, a template or a length")
        count = len(self.symbols)
        if self.length is not None and self.length < max(count, 1):
            raise ValueError(f"length={self.length} is shorter than the {count} tokens of {self.kept!r}")
        unknown = sorted({s for s in self.symbols if s != "*" and (s in smiles.SPECIALS or s not in smiles.INDEX)})
        if unknown:
            raise ValueError(f"cannot keep {self.kept!r}: tokens outside the vocabulary: {' '.join(unknown)}")
        if self.fragment is not None and self.query is None:
            raise ValueError(f"the fragment {self.fragment!r} is no SMARTS")

    @classmethod
    def of(cls, given: "Constraint | str | None") -> "Constraint | None":
        """A constraint as it is; a string is a prefix or, with `*`, a template."""
        if given is None or isinstance(given, cls):
            return given
        if not isinstance(given, str):
            raise ValueError(f"keep a string of SMILES tokens, or what a Constraint says, got {given!r}")
        return cls(template=given) if "*" in given else cls(prefix=given)

    @property
    def kept(self) -> str:
        return self.prefix or self.template

    @property
    def symbols(self) -> list[str]:
        """The tokens that are kept, and `*`."""
        return smiles.symbols_of(self.kept)

    @property
    def told(self) -> str:
        """In names of solvers, and so in the provenance of banks."""
        length = "" if self.length is None else f", length={self.length}"
        fragment = "" if self.fragment is None else f", fragment={self.fragment}"
        return f"keeping {self.kept}{length}{fragment}"

    @property
    def query(self) -> Chem.Mol | None:
        """The substructure that molecules are searched for, or None if the kept tokens are none."""
        with rdBase.BlockLogs():
            if self.fragment is not None:
                return Chem.MolFromSmarts(self.fragment)
            return Chem.MolFromSmiles(self.prefix) if self.prefix else None

    def fixed(self, length: int) -> Tensor:
        """The token that each position keeps, or FREE: (length,) int64, with <bos> in front.

        Raises:
            ValueError: if it does not fit.
        """
        tokens = torch.full((length,), FREE)
        count = len(self.symbols) if self.length is None else self.length
        if count + 2 > length:
            raise ValueError(f"{self.told} takes {count} tokens, and the model has room for {length - 2}")
        tokens[0] = smiles.BOS
        for place, symbol in enumerate(self.symbols, 1):
            tokens[place] = FREE if symbol == "*" else smiles.INDEX[symbol]
        if self.length is not None:
            tokens[self.length + 1] = smiles.EOS
            tokens[self.length + 2 :] = smiles.PAD
        return tokens

    def marked(self, strings: Sequence[str]) -> list[str]:
        """The strings, of which molecules without the fragment get a "!" in front."""
        query = self.query
        if query is None:
            return list(strings)
        with rdBase.BlockLogs():
            molecules = [Chem.MolFromSmiles(text) if text else None for text in strings]
        lost = [mol is not None and not mol.HasSubstructMatch(query) for mol in molecules]
        return [VIOLATION + text if gone else text for text, gone in zip(strings, lost, strict=True)]


def count_violations(strings: Sequence[str]) -> int:
    """How many strings are molecules that lost the fragment that they were to keep; a warning says so if there are."""
    count = sum(text.startswith(VIOLATION) for text in strings)
    if count:
        logger.warning(
            "%d of %d strings are molecules without the fragment that they were to keep: they begin with %r and count "
            "as invalid", count, len(strings), VIOLATION,
        )  # fmt: skip
    return count
