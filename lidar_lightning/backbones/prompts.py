"""Prompts, and the parts of a pipeline that read them."""

import warnings
from collections.abc import Callable
from typing import Any


def text_encoders(pipe: Any) -> list[Any]:
    """The text encoders of a pipeline, with None for each that was left out."""
    return [getattr(pipe, name, None) for name in pipe.components if name.startswith("text_encoder")]


def check_prompt(prompt: str, pipe: Any, limit_of: Callable[[Any], int]) -> None:
    """Raises ValueError if a prompt is empty, and warns if it has more tokens than a tokenizer's limit."""
    if not prompt.strip():
        raise ValueError("the prompt is empty: write what the picture shows")
    for key in ("tokenizer", "tokenizer_2", "tokenizer_3"):
        tokenizer = getattr(pipe, key, None)
        if tokenizer is None:
            continue
        count, limit = len(tokenizer(prompt, truncation=False).input_ids), limit_of(tokenizer)
        if count > limit:
            warnings.warn(
                f"the prompt {prompt!r} has {count} tokens, {count - limit} more than {key} takes: its end is cut",
                stacklevel=4,
            )
