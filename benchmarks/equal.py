"""What the tables of methods at equal compute share: banks drawn once, parts that are kept, finished rows."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from lidar_lightning import Lookahead, LookaheadBank
from lidar_lightning.backbones import Backbone
from lidar_lightning.lookahead import BankStore
from lidar_lightning.rewards import Reward
from lidar_lightning.utils.files import write_atomically


class Banks:
    """Lookaheads that rows share: as many as `most` network calls make are drawn once, of which n are a bank of n."""

    def __init__(self, backbone: Backbone, reward: Reward, seed: int, folder: Path, most: int):
        self.backbone, self.reward, self.seed, self.most = backbone, reward, seed, most
        self.store = BankStore(folder)

    def __call__(self, lookahead: Lookahead, prompt: str) -> LookaheadBank:
        bank = lookahead.of_size(max(self.most // lookahead.steps, lookahead.n)).bank(
            self.backbone, prompt, self.seed, self.reward.parts, self.store
        )
        scores = {name: values[: lookahead.n] for name, values in bank.rewards.items()}
        provenance = replace(bank.provenance, n=lookahead.n)
        return replace(bank, samples=bank.samples[: lookahead.n], rewards=scores, provenance=provenance)


def native_bfloat16(device: str) -> bool:
    """Whether bfloat16 is the faster: on an accelerator, or on a CPU with instructions for it."""
    known = torch.cpu.get_capabilities()
    return device != "cpu" or bool(known.get("amx_bf16") or known.get("avx512_bf16"))


def bfloat16(backbone: Backbone) -> torch.autocast:
    """Network calls in bfloat16 where that is faster, else in float32."""
    device = backbone.device.type
    return torch.autocast(device, torch.bfloat16, enabled=native_bfloat16(device))


def kept(path: Path, make: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """Tensors from a file, made and written there first if there is none."""
    if not path.exists():
        write_atomically(path, save(make()))
    return load_file(path)


class Rows:
    """The finished rows of a table, in a file beside it, so that they are neither drawn nor lost again.

    Args:
        path: of the CSV file.
        keys: the columns that say which row it is.
    """

    def __init__(self, path: Path, keys: list[str]):
        self.path, self.keys = path, keys
        self.table = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=keys)

    def of(self, **wanted: object) -> pd.DataFrame:
        """The rows with these values."""
        found = self.table
        for key, value in wanted.items():
            found = found[found[key] == value]
        return found

    def add(self, rows: pd.DataFrame) -> None:
        """Joins rows, in the order of their keys, and writes the file."""
        known = [self.table] if len(self.table) else []
        self.table = pd.concat([*known, rows]).sort_values(self.keys, ignore_index=True)
        write_atomically(self.path, self.table.to_csv(index=False, float_format="%.6g").encode())
