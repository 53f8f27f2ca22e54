"""What backbones around a pipeline share: their settings, among them the LoRA adapters that are on."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Self

from torch import nn

from lidar_lightning.backbones.adapters import active_scales, adapters_on


class Adapted:
    """A pipeline together with the settings with which it is used.

    The settings are the arguments of the constructor. Among them are `name`, and `lora_scales`, which gives the scale
    of each adapter that is on by its name; None leaves on what is on in the pipeline, in lookaheads and samples alike.
    """

    settings: dict[str, Any]
    _pipe: tuple[Any]
    """The pipeline, in a tuple so that its modules do not become submodules."""
    adaptable: nn.ModuleList
    """The modules into which adapters are loaded."""

    @property
    def pipe(self) -> Any:
        return self._pipe[0]

    def variant(self, **changes: Any) -> Self:
        """The same weights with other settings, e.g. another scheduler for lookaheads."""
        return self.around(self.pipe, **changes)

    def around(self, pipe: Any, **changes: Any) -> Self:
        """Another pipeline with these settings, except for the changes."""
        return type(self)(pipe, **{**self.settings, **changes})  # type: ignore[call-arg]

    @property
    def lora_scales(self) -> dict[str, float]:
        """The scales of the LoRA adapters that are on, by name, without the adapter that is trained here."""
        given = self.settings["lora_scales"]
        return active_scales(self.adaptable) if given is None else given

    @property
    def name(self) -> str:
        return "+".join((self.settings["name"], *self.lora_scales))

    def active(self) -> AbstractContextManager[None]:
        """While it is active, the adapters of `lora_scales` are on and no others."""
        given = self.settings["lora_scales"]
        return nullcontext() if given is None else adapters_on(self.adaptable, given)

    def origin(self) -> str:
        """The name of the model, since adapters trained in one precision may be used in another."""
        return self.settings["name"]
