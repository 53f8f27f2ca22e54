"""Drawing the lookahead samples of a prompt with a cheap solver."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.backbones import Backbone
from lidar_lightning.backbones.vae import decode
from lidar_lightning.lookahead.bank import LookaheadBank, Provenance, check_space
from lidar_lightning.lookahead.presets import lookahead_backbone
from lidar_lightning.lookahead.presets import preset as find_preset
from lidar_lightning.lookahead.store import BankStore
from lidar_lightning.rewards import Reward
from lidar_lightning.sampling import sample
from lidar_lightning.utils.chunks import in_chunks
from lidar_lightning.utils.describe import describe, public_settings
from lidar_lightning.utils.progress import advance, working
from lidar_lightning.utils.seeding import Generators, stream_seed
from lidar_lightning.utils.sizes import check_memory

logger = logging.getLogger(__name__)


class Lookahead:
    """How banks are made: n samples for each prompt, by a solver of few steps.

    Args:
        steps: network calls per lookahead sample; None takes those of the preset, or 8.
        n: samples per prompt.
        backbone: the model that draws the samples, which must share the data space of the guided model; None takes the
            guided model itself.
        batch_size: number of samples per network call, and that are decoded and scored at once; it is lowered if memory
            runs out.
        preset: a published setting of image models (see `presets`). It fixes the number of steps; others are refused.
        decoder: an AutoencoderTiny of diffusers (a folder or hub repository, such as "madebyollin/taesd") that decodes
            the lookaheads of an image model for scoring, in place of its VAE.
        same_space: says that the latents of `backbone` mean the same to the guided model although their VAEs differ, as
            "madebyollin/sdxl-vae-fp16-fix" does; a warning names both where that matters.

    Raises:
        ValueError: if a number is below 1, if there is no such preset, or if it has another number of steps.
    """

    def __init__(
        self,
        steps: int | None = None,
        n: int = 200,
        backbone: Backbone | None = None,
        batch_size: int = 256,
        preset: str | None = None,
        decoder: str | None = None,
        same_space: bool = False,
    ):
        published = find_preset(preset).steps if preset else 8 if steps is None else steps
        if steps not in (None, published):
            raise ValueError(
                f"the lookahead preset {preset!r} is of {published} steps, got steps={steps}: leave steps out (null), "
                "or set its scheduler on the model and take no preset"
            )
        steps = published
        for name, value in {"steps": steps, "n": n, "batch_size": batch_size}.items():
            if value < 1:
                raise ValueError(f"lookahead {name} must be at least 1, got {value}")
        self.steps, self.n, self.backbone, self.batch_size, self.preset = steps, n, backbone, batch_size, preset
        self.decoder, self.same_space = decoder, same_space
        # What the preset needs, by the model and its adapters, and the decoder, by its name.
        self._loaded: dict[Any, Any] = {}

    def described(self) -> dict[str, Any]:
        """What determines its samples, as JSON. How many are drawn at once does not."""
        public = public_settings(self)
        return {"class": "Lookahead", **{key: describe(public[key]) for key in public if key != "batch_size"}}

    def of_size(self, n: int) -> "Lookahead":
        """The same lookahead with n samples per prompt; what one of the two has loaded serves both."""
        other = Lookahead(self.steps, n, self.backbone, self.batch_size, self.preset, self.decoder, self.same_space)
        other._loaded = self._loaded
        return other

    def check_size(self, backbone: Backbone) -> None:
        """Raises ValueError if a bank of this model does not fit into the memory of this machine."""
        check_memory(f"a bank of n={self.n} lookaheads", self.n, backbone.sample_bytes())

    def source(self, backbone: Backbone) -> Backbone:
        """The model that draws lookaheads for `backbone`."""
        chosen = self.backbone or backbone
        if self.preset is None:
            return chosen
        key = chosen, str(getattr(chosen, "lora_scales", None))
        if key not in self._loaded:
            self._loaded[key] = lookahead_backbone(chosen, self.preset)
        return self._loaded[key]

    def provenance(self, backbone: Backbone, prompt: str, seed: int) -> Provenance:
        """The provenance of the bank of a prompt.

        Raises:
            ValueError: if the lookaheads lie in another space than the data of `backbone`, or keep other tokens.
        """
        source = self.source(backbone)
        if getattr(source, "keep", None) != getattr(backbone, "keep", None):
            raise ValueError(
                f"lookaheads of {source.name!r} keep {getattr(source, 'keep', None)}, and samples of {backbone.name!r} "
                f"{getattr(backbone, 'keep', None)}: set keep of both to the same"
            )
        solver = source.solver(self.steps).name
        found = Provenance(prompt, source.name, source.fingerprint(), source.space, solver, self.steps, self.n, seed)
        check_space(found, backbone.space, repr(backbone.name), self.same_space)
        return replace(found, space=backbone.space)

    def origin(self, backbone: Backbone) -> dict[str, Any]:
        """What the provenance says of every bank, whatever the prompt and the seed."""
        own = asdict(self.provenance(backbone, "", 0))
        named = {key: value for key, value in own.items() if key not in ("prompt", "seed")}
        return named | ({"decoder": self.decoder} if self.decoder else {})

    def bank(
        self, backbone: Backbone, prompt: str, seed: int, rewards: Sequence[Reward], store: BankStore | None = None
    ) -> LookaheadBank:
        """The bank of a prompt with these rewards: from the store, scored again if need be, or drawn and stored.

        It is stored before it is scored, too, so that a reward that fails costs no lookaheads.
        """
        source = self.source(backbone)
        provenance = self.provenance(backbone, prompt, seed)
        pixels = partial(self._decode, source) if self.decoder else source.decode
        scoring = rewards, pixels, self.decoder, self.batch_size
        if store is None:
            return self._draw(source, provenance).scored(*scoring)
        with store.locked(provenance):
            stored = store.get(provenance)
            if stored is None:
                stored = self._draw(source, provenance)
                store.put(stored)
            bank = stored.scored(*scoring)
            if bank is not stored:
                store.put(bank)
        return bank

    def _decode(self, source: Any, samples: Tensor) -> Tensor:
        """Pixels of lookaheads by the tiny decoder."""
        if self.decoder not in self._loaded:
            from lidar_lightning.backbones.loading import load_tiny_vae

            self._loaded[self.decoder] = load_tiny_vae(str(self.decoder), source)
        return decode(self._loaded[self.decoder].to(samples.device), source.unpack(samples))

    def _draw(self, source: Backbone, provenance: Provenance) -> LookaheadBank:
        prompt, start = provenance.prompt, time.perf_counter()
        seeds = [stream_seed(provenance.seed, f"lookahead\0{prompt}", i) for i in range(self.n)]
        solver = source.solver(self.steps)
        with working(f"lookaheads of {prompt[:40]!r}", self.n * self.steps):

            def draw(start: int, stop: int) -> Tensor:
                generators = Generators(seeds[start:stop], source.device)
                condition = source.encode([prompt] * len(generators))
                return sample(source, solver, generators, condition, on_step=lambda _: advance(stop - start)).samples

            parts = in_chunks(draw, self.n, self.batch_size)
        return LookaheadBank(torch.cat(parts), {}, provenance, seconds=time.perf_counter() - start)
