"""What backbones around a pipeline share: settings, one of which says which LoRA adapters are on."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

from torch import nn

from lidar_lightning.backbones.adapters import active_scales, adapters_on


class Adapted:
    """A pipeline with the settings it is used with.

    Settings are the arguments it was made with, among them its `name` and the `lora_scales` of the adapters that are
    on, by name; None leaves on, in lookaheads and samples alike, what is on in the pipeline.
    """

    settings: dict[str, Any]
    _pipe: tuple[Any]
    """In a tuple, so that its modules are not submodules by it."""
    adaptable: nn.ModuleList
    """What adapters are loaded into."""

    @property
    def pipe(self) -> Any:
        return self._pipe[0]

    def variant(self, **changes: Any) -> Self:
        """The same weights with other settings, e.g. another scheduler for lookaheads."""
        return self.around(self.pipe, **changes)

    def around(self, pipe: Any, **changes: Any) -> Self:
        """Another pipeline with these settings but for some."""
        return type(self)(pipe, **{**self.settings, **changes})  # type: ignore[call-arg]

    @property
    def lora_scales(self) -> dict[str, float]:
        """The LoRA adapters that are on with their scales, but for the one that is trained here."""
        given = self.settings["lora_scales"]
        return active_scales(self.adaptable) if given is None else given

    @property
    def name(self) -> str:
        return "+".join((self.settings["name"], *self.lora_scales))

    def active(self) -> AbstractContextManager[None]:
        """Within it these adapters are on and no other."""
        given = self.settings["lora_scales"]
        return nullcontext() if given is None else adapters_on(self.adaptable, given)

    def origin(self) -> str:
        """The model's name: adapters trained in one precision are used in another."""
        return self.settings["name"]
