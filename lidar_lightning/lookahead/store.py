"""Lookahead banks on disk: one file per prompt, found by where its samples came from."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lidar_lightning.lookahead.bank import LookaheadBank, Provenance
from lidar_lightning.utils.files import expand, locked, sweep

logger = logging.getLogger(__name__)


class BankStore:
    """A folder of banks, one file per prompt, found by the provenance of its samples.

    Files that killed processes left in it are removed.

    Args:
        folder: its path; the folder is made when something is first written into it.
    """

    def __init__(self, folder: str | Path):
        self.folder = expand(folder)
        sweep(self.folder)

    def path(self, provenance: Provenance) -> Path:
        slug = re.sub(r"[^a-z0-9]+", "-", provenance.prompt.lower()).strip("-")[:40]
        return self.folder / f"{slug}-{provenance.key()}.safetensors"

    def get(self, provenance: Provenance) -> LookaheadBank | None:
        """The bank of that provenance. None if there is none or if its file is damaged, which is logged as an error."""
        path = self.path(provenance)
        if not path.exists():
            return None
        try:
            return LookaheadBank.load(path)
        except ValueError as error:
            logger.error("%s; it is built again", error)
            return None

    def put(self, bank: LookaheadBank) -> Path:
        path = self.path(bank.provenance)
        bank.save(path)
        return path

    @contextmanager
    def locked(self, provenance: Provenance) -> Iterator[None]:
        """Keeps other processes that want the same bank waiting; a process that is killed gives up its lock."""
        with locked(self.path(provenance)):
            yield
