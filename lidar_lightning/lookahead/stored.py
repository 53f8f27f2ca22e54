"""Banks that are there already, in place of drawn ones."""

from collections.abc import Sequence
from typing import Any

from lidar_lightning.backbones import Backbone
from lidar_lightning.lookahead.bank import LookaheadBank, check_space, check_together
from lidar_lightning.lookahead.draw import Lookahead
from lidar_lightning.lookahead.store import BankStore
from lidar_lightning.rewards import Reward
from lidar_lightning.utils.files import expand
from lidar_lightning.utils.tensor_files import checksum


class StoredBanks(Lookahead):
    """The banks of a folder, one file a prompt: of an earlier run, or your own (`LookaheadBank.save`).

    Nothing is drawn. Rewards that a bank lacks are scored; its file stays as it is.

    Args:
        folder: with .safetensors files, banks of different prompts and as many samples each.

    Raises:
        ValueError: if there is no bank, a file is damaged, two are of one prompt, or sizes differ.
    """

    def __init__(self, folder: str):
        files = sorted(expand(folder).glob("*.safetensors"))
        if not files:
            raise ValueError(f"no banks in {folder}: give a folder of the .safetensors files of banks")
        banks = [LookaheadBank.load(file) for file in files]
        check_together(banks)
        self._banks = {bank.provenance.prompt: bank for bank in banks}
        if len(self._banks) < len(banks):
            raise ValueError(f"two banks in {folder} are of one prompt: keep one of them")
        super().__init__(n=len(banks[0].samples))
        self.steps = 0

    def described(self) -> dict[str, Any]:
        return {"class": "StoredBanks", "banks": self._keys()}

    def origin(self, backbone: Backbone) -> dict[str, Any]:
        return {"banks": self._keys()}

    def _keys(self) -> dict[str, str]:
        """What tells the bank of each prompt from another: its samples, and their scores."""
        return {
            prompt: f"{bank.provenance.key()} {checksum(dict(bank.rewards))}" for prompt, bank in self._banks.items()
        }

    def of_size(self, n: int) -> Lookahead:
        """Itself. Raises ValueError if n is another size than it has: there is no budget to be spent on banks."""
        if n != self.n:
            raise ValueError(f"stored banks have {self.n} samples, and cannot be made of {n}: draw some by a Lookahead")
        return self

    def bank(
        self, backbone: Backbone, prompt: str, seed: int, rewards: Sequence[Reward], store: BankStore | None = None
    ) -> LookaheadBank:
        """The bank of a prompt with those rewards; nothing goes into the store.

        Raises:
            ValueError: if there is none, or it is of another space than the model's.
        """
        if prompt not in self._banks:
            raise ValueError(f"no stored bank is of {prompt!r}, only of {sorted(self._banks)}")
        bank = self._banks[prompt]
        check_space(bank.provenance, backbone.space, repr(backbone.name))
        return bank.scored(rewards, backbone.decode, None, self.batch_size)
