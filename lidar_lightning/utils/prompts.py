"""Prompts that users give: one, several, or a file of them."""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from lidar_lightning.utils.files import expand
from lidar_lightning.utils.tables import read_csv

logger = logging.getLogger(__name__)
READ = (".txt", ".jsonl", ".csv")
OTHER_FILES = (".json", ".yaml", ".yml", ".tsv", ".parquet", ".xlsx", ".gz", ".zip", ".md")
"""What nobody means as a prompt."""


def read_prompts(path: str | Path, column: str = "prompt") -> list[str]:
    """Reads the prompts of a file: one on each line (.txt), or the field or column `column` (.jsonl, .csv).

    Blank lines are left out, with a warning that counts them.

    Raises:
        ValueError: if the file is missing, of another kind or without such a column, or if a prompt is empty or not
            text.
    """
    path = expand(path)
    if not path.is_file():
        raise ValueError(f"no prompt file at {path}: give a {', '.join(READ)} file, or the prompts themselves")
    if path.suffix not in READ:
        raise ValueError(f"cannot read prompts from {path}: it is none of {', '.join(READ)}")
    try:
        if path.suffix == ".csv":
            table = read_csv(path, dtype=str)
            if column not in table:
                raise ValueError(f"it has no column {column!r}, but {', '.join(table)}")
            lines = list(enumerate(table.to_dict("records"), 2))
        else:
            texts = list(enumerate(path.read_text(encoding="utf-8-sig").splitlines(), 1))
            lines = [(number, text) for number, text in texts if text.strip()]
            if blank := len(texts) - len(lines):
                logger.warning("left out %d blank lines of %s", blank, path)
            if path.suffix == ".txt":
                return [text for _, text in lines]
            lines = [(number, json.loads(text)) for number, text in lines]
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read prompts from {path}: {error}") from error
    for number, row in lines:
        prompt = row.get(column) if isinstance(row, dict) else None
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(
                f"cannot read prompts from {path}: line {number} has no text under {column!r}, got {row!r}"
            )
    return [row[column] for _, row in lines]


def prompts_of(prompts: Sequence[str] | str) -> list[str]:
    """The list of the prompts that a user gave: a list, the path of a file (see `read_prompts`), or a single prompt.

    Raises:
        ValueError: if there is no prompt, if the file cannot be read, or if a prompt is empty, is not a string, or
            stands there twice, which would draw the same samples again.
    """
    if isinstance(prompts, str):
        prompts = read_prompts(prompts) if prompts.endswith((*READ, *OTHER_FILES)) else [prompts]
    if not isinstance(prompts, Sequence) or not len(prompts):
        raise ValueError(f"prompts must not be empty: give a list with at least one, got {prompts!r}")
    for place, prompt in enumerate(prompts):
        if not isinstance(prompt, str) or not prompt.strip():
            raise ValueError(f"prompts must not be empty: prompt {place} is {prompt!r}")
    if again := [prompt for prompt, count in Counter(prompts).items() if count > 1]:
        raise ValueError(f"{len(again)} prompts stand twice, e.g. {again[0]!r}: raise samples instead")
    return list(prompts)
