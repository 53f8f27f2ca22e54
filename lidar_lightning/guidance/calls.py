"""Checks of the arguments of a stock pipeline against the banks that guide it."""

import functools
import inspect
import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from lidar_lightning.lookahead.bank import LookaheadBank
from lidar_lightning.solvers.stock import replaced

ASPECT = 0.03
"""By how much the aspect ratios of a bank and a call may differ: pipelines round sizes to their patches."""


@contextmanager
def calls_checked(pipe: Any, banks: Sequence[LookaheadBank]) -> Iterator[None]:
    """While the block runs, calls of the pipeline whose prompts or size do not fit the banks are refused.

    The check is made where a pipeline checks its own inputs, in `check_inputs`; one without that method is not checked.
    """
    if not hasattr(pipe, "check_inputs"):
        with nullcontext():
            yield
        return
    plain = pipe.check_inputs
    names = inspect.signature(plain)

    @functools.wraps(plain)
    def check(*args: Any, **options: Any) -> Any:
        given = names.bind(*args, **options).arguments
        result = plain(*args, **options)
        check_prompts(banks, given.get("prompt"), given.get("prompt_embeds"))
        check_aspect(banks, given.get("height"), given.get("width"))
        return result

    with replaced(pipe, "check_inputs", check):
        yield


def check_prompts(banks: Sequence[LookaheadBank], prompt: Any, embeds: Any = None) -> None:
    """Raises ValueError unless each prompt of a call has a bank, and warns if that bank was drawn for another text.

    Args:
        banks: the banks, in the order of the prompts.
        prompt: a text or a list of texts; None if embeddings are given in its place.
        embeds: embeddings of the prompts (P, ...), or None.
    """
    asked = [prompt] if isinstance(prompt, str) else prompt
    rows = asked if asked is not None else [tuple(row.flatten().tolist()) for row in (() if embeds is None else embeds)]
    if rows and len(rows) != len(banks) and (len(banks) > 1 or len(set(rows)) > 1):
        raise ValueError(
            f"the pipeline was called with {len(rows)} prompts, but is guided by {len(banks)} bank(s), of "
            f"{[bank.provenance.prompt for bank in banks]}: give the bank of each prompt, in their order"
        )
    for text, bank in zip(asked or [], banks, strict=False):
        if text != bank.provenance.prompt:
            warnings.warn(f"the prompt {text!r} is guided by the bank of {bank.provenance.prompt!r}", stacklevel=6)


def check_aspect(banks: Sequence[LookaheadBank], height: int | None, width: int | None) -> None:
    """Raises ValueError if pictures are to have another aspect ratio than the banks."""
    for bank in banks:
        shape = bank.provenance.space.rpartition("-")[2].split("x")
        if not (height and width and len(shape) in (3, 4) and all(part.isdigit() for part in shape)):
            continue
        rows, columns = int(shape[-2]), int(shape[-1])
        if abs(math.log(rows * width / (columns * height))) > ASPECT:
            raise ValueError(
                f"the pipeline was asked for pictures of {height}x{width} pixels, but the bank of "
                f"{bank.provenance.prompt!r} holds latents of {rows}x{columns}: draw it at the same aspect ratio"
            )
