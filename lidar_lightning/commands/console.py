"""The messages of a command: ours through one logger, and those of other libraries only if a user can act on them."""

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

OURS = ("lidar_lightning", "datamodules", "recipes")

NOISE: Mapping[str, tuple[str, ...]] = {
    "lightning.pytorch.utilities.rank_zero": (
        "💡 Tip", "GPU available", "TPU available", "Using bfloat16 Automatic Mixed", "`Trainer.fit` stopped: `max_",
        "Restoring states from the checkpoint", "Loaded model weights from", "Restored all states from the checkpoint",
    ),
    "lightning.fabric.utilities.seed": ("Seed set to",),
    "transformers.utils.import_utils": ("`CLIPImageProcessor` requires torchvision", "`SiglipImageProcessor` requires"),
}  # fmt: skip
"""Logger to beginnings of messages: advertisements, and what the command line or the configuration said itself."""

WARNINGS = (
    ".*does not have many workers",  # prompts are strings: there is nothing to load
    ".*LeafSpec",  # Lightning's use of torch
    ".*args parameter is intended to run",  # that is how we run it
    "Checkpoint directory .* exists and is not empty",  # it is where a killed run goes on
    r"Found \d+ module\(s\) in eval mode",  # the frozen model under LoRA
    "Be aware that when using `ckpt_path`",  # weights are all that predict takes
)
"""Beginnings of warnings that follow from what we do on purpose."""


class Noise(logging.Filter):
    """A filter that drops the messages of a logger that begin with certain words."""

    def __init__(self, beginnings: tuple[str, ...]):
        super().__init__()
        self.beginnings = beginnings

    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith(self.beginnings)


class Messages(logging.Handler):
    """Writes our messages to the current standard error, above the progress line if there is one."""

    def emit(self, record: logging.LogRecord) -> None:
        level = "" if record.levelno < logging.WARNING else f"{record.levelname.lower()}: "
        print(f"lidar: {level}{record.getMessage()}", file=sys.stderr)


HANDLER = Messages(logging.INFO)
FILTERS = {name: Noise(beginnings) for name, beginnings in NOISE.items()}


@contextmanager
def console(debug: bool = False) -> Iterator[None]:
    """While a command runs, shows our messages and, unless `debug` is set, hides the noise of other libraries."""
    HANDLER.setLevel(logging.DEBUG if debug else logging.INFO)
    levels = {name: logging.getLogger(name).level for name in OURS}
    with warnings.catch_warnings():
        for name in OURS:
            logging.getLogger(name).setLevel(HANDLER.level)
            logging.getLogger(name).addHandler(HANDLER)
        if not debug:
            _hide()
        try:
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
                logging.getLogger(name).removeHandler(HANDLER)
            for name, noise in FILTERS.items():
                logging.getLogger(name).removeFilter(noise)


def _hide() -> None:
    for name, noise in FILTERS.items():
        logging.getLogger(name).addFilter(noise)
    for beginning in WARNINGS:
        warnings.filterwarnings("ignore", message=beginning)
    shown = warnings.showwarning

    def show(message: Any, category: type[Warning], filename: str, *rest: Any) -> None:
        if any(f"/{name}/" in filename.replace("\\", "/") for name in OURS):
            print(f"lidar: warning: {message}", file=sys.stderr)
        else:
            shown(message, category, filename, *rest)

    warnings.showwarning = show  # type: ignore[assignment]
