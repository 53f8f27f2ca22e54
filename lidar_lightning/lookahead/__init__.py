"""Lookahead: banks of cheap scored samples of a prompt, in memory and on disk, and how they are drawn."""

from lidar_lightning.lookahead.bank import LookaheadBank, Provenance
from lidar_lightning.lookahead.draw import Lookahead
from lidar_lightning.lookahead.store import BankStore
from lidar_lightning.lookahead.stored import StoredBanks

__all__ = ["BankStore", "Lookahead", "LookaheadBank", "Provenance", "StoredBanks"]
