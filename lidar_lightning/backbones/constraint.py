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
"""Marks a molecule that lost the kept fragment; no SMILES string begins with this character."""


@dataclass(frozen=True)
class Constraint:
    """The tokens that every sample keeps.

    Args:
        prefix: the SMILES tokens with which every string begins, such as a scaffold.
        template: in place of a prefix, tokens in which each `*` leaves one token free, such as "C1CC1**O". All tokens
            after the template are free.
        length: the number of SMILES tokens of every string, which <eos> follows; None leaves it free.
        fragment: the SMARTS of a substructure that every molecule must hold; None takes the prefix, if that is a
            molecule. A string that is a molecule without it gets a "!" in front, which makes it invalid, so that
            rewards give it their floor.

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
            raise ValueError("a constraint must keep something: give a prefix, a template or a length")
        count = len(self.symbols)
        if self.length is not None and self.length < max(count, 1):
            raise ValueError(f"length={self.length} is shorter than the {count} tokens of {self.kept!r}")
        unknown = sorted({s for s in self.symbols if s != "*" and (s in smiles.SPECIALS or s not in smiles.INDEX)})
        if unknown:
            raise ValueError(f"cannot keep {self.kept!r}: tokens outside the vocabulary: {' '.join(unknown)}")
        if self.fragment is not None and self.query is None:
            raise ValueError(f"the fragment {self.fragment!r} cannot be read as SMARTS")

    @classmethod
    def of(cls, given: "Constraint | str | None") -> "Constraint | None":
        """Returns a constraint as it is; a string becomes a prefix or, if it has a `*`, a template."""
        if given is None or isinstance(given, cls):
            return given
        if not isinstance(given, str):
            raise ValueError(f"keep must be a string of SMILES tokens, a Constraint or None, got {given!r}")
        return cls(template=given) if "*" in given else cls(prefix=given)

    @property
    def kept(self) -> str:
        return self.prefix or self.template

    @property
    def symbols(self) -> list[str]:
        """The kept tokens, with `*` for free ones."""
        return smiles.symbols_of(self.kept)

    @property
    def told(self) -> str:
        """A description for the names of solvers, by which it is part of the provenance of banks."""
        length = "" if self.length is None else f", length={self.length}"
        fragment = "" if self.fragment is None else f", fragment={self.fragment}"
        return f"keeping {self.kept}{length}{fragment}"

    @property
    def query(self) -> Chem.Mol | None:
        """The substructure that every molecule must hold, or None if the kept tokens are no molecule."""
        with rdBase.BlockLogs():
            if self.fragment is not None:
                return Chem.MolFromSmarts(self.fragment)
            return Chem.MolFromSmiles(self.prefix) if self.prefix else None

    def fixed(self, length: int) -> Tensor:
        """The token that each position keeps, or FREE: (length,) int64; the first one is <bos>.

        Raises:
            ValueError: if the kept tokens do not fit into `length`.
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
        """The strings; molecules without the fragment get a "!" in front."""
        query = self.query
        if query is None:
            return list(strings)
        with rdBase.BlockLogs():
            molecules = [Chem.MolFromSmiles(text) if text else None for text in strings]
        lost = [mol is not None and not mol.HasSubstructMatch(query) for mol in molecules]
        return [VIOLATION + text if gone else text for text, gone in zip(strings, lost, strict=True)]


def count_violations(strings: Sequence[str]) -> int:
    """Counts the strings that are molecules without the fragment they had to keep, and warns if there are any."""
    count = sum(text.startswith(VIOLATION) for text in strings)
    if count:
        logger.warning(
            "%d of %d strings are molecules without the fragment that they had to keep: they begin with %r and count "
            "as invalid", count, len(strings), VIOLATION,
        )  # fmt: skip
    return count
