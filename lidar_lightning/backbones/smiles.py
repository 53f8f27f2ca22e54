"""Turns SMILES strings into tokens and back, with the vocabulary of the QM9 models (`yairschiff/qm9-tokenizer`)."""

import re
from collections.abc import Sequence

import torch
from rdkit import Chem, rdBase
from torch import Tensor

SPECIALS = ("<bos>", "<eos>", "<mask>", "<pad>", "<unk>")
SYMBOLS = (  # noqa: SIM905
    "# ( ) - 1 2 3 4 5 = C F N O [C-] [CH-] [N+] [N-] [NH+] [NH2+] [NH3+] [O-] [c-] [cH-] [n-] [nH+] [nH] c n o"
).split(" ")
VOCABULARY = (*SPECIALS, *SYMBOLS)
BOS, EOS, MASK, PAD, UNK = range(len(SPECIALS))
INDEX = {token: i for i, token in enumerate(VOCABULARY)}
_PATTERN = re.compile(r"\[[^\]]*\]|Br|Cl|.")


def symbols_of(text: str) -> list[str]:
    """The tokens of a string, known or not."""
    return _PATTERN.findall(text)


def unreadable(smiles: str, length: int) -> str | None:
    """Why a string cannot be encoded into `length` tokens, or None if it can."""
    tokens = symbols_of(smiles)
    if not tokens:
        return "it is empty"
    if len(tokens) + 2 > length:
        return f"it has {len(tokens)} tokens, but at most {length - 2} fit"
    unknown = sorted({token for token in tokens if token not in INDEX or token in SPECIALS})
    return f"it has tokens outside the vocabulary: {' '.join(unknown)}" if unknown else None


def canonical(smiles: str) -> str:
    """RDKit's canonical SMILES of a molecule; a string that is no molecule stays as it is."""
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    return smiles if mol is None else Chem.MolToSmiles(mol)


def tokens_of(smiles: Sequence[str], length: int) -> Tensor:
    """Turns strings into tokens (n, length) int64: <bos>, those of the string, <eos>, then <pad>.

    Raises:
        ValueError: if a string does not fit the vocabulary or the length; the message names the first one.
    """
    rows = torch.full((len(smiles), length), PAD)
    for row, text in zip(rows, smiles, strict=True):
        reason = unreadable(text, length)
        if reason:
            raise ValueError(f"cannot encode the SMILES {text!r}: {reason}")
        tokens = [BOS, *(INDEX[token] for token in symbols_of(text)), EOS]
        row[: len(tokens)] = torch.tensor(tokens)
    return rows


def decode(tokens: Tensor) -> list[str]:
    """Turns tokens (n, L) int64 into strings as the published evaluation does.

    <bos>, <eos> and <pad> are dropped wherever they stand; any other special token stays and makes a string invalid.
    """
    dropped = {BOS, EOS, PAD}
    return ["".join(VOCABULARY[i] for i in row if i not in dropped) for row in tokens.tolist()]
