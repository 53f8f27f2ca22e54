"""How a pipeline that runs as a whole is trained: by its autoencoder, and its network called as stock calls do."""

import copy
import functools
import inspect
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from diffusers.schedulers.scheduling_utils import SchedulerOutput
from torch import Tensor, nn
from tqdm.auto import tqdm

from lidar_lightning.backbones.adapters import own_weights
from lidar_lightning.backbones.latent_map import LatentMap, learn_map
from lidar_lightning.backbones.replay import Condition, Replay
from lidar_lightning.backbones.rows import stacked
from lidar_lightning.backbones.vae import check_pictures, modes
from lidar_lightning.backbones.watched import first_call, watched
from lidar_lightning.backbones.whole import WholeRuns
from lidar_lightning.parametrisation import from_x0
from lidar_lightning.schedules import coefficients, noised
from lidar_lightning.solvers.scheduler import kind_of
from lidar_lightning.solvers.stock import replaced
from lidar_lightning.solvers.whole import Enough, spaced
from lidar_lightning.utils.seeding import Generators

PROMPT = "a picture"
PROBED = 256
"""The side in pixels of a picture that shows how many pixels an autoencoder makes of one latent."""
STEPS = 4
"""The number of steps of the stock calls that are watched."""
SCALES = ("true_cfg_scale", "guidance_scale")
"""Names of the scale of classifier-free guidance; a pipeline that takes both tells its network the second."""
OFF = (1.0, 0.0)
"""The scales that switch it off, by the convention of most pipelines and by that of Z-Image."""


class ReplayedPipeline(WholeRuns):
    """A pipeline that is called as a whole to draw samples, and whose network is called alone to be trained.

    The condition of a prompt consists of the arguments that stock calls without classifier-free guidance pass on.
    """

    pipe: Any
    parts: nn.ModuleDict
    around: Callable[..., Any]
    call: dict[str, Any]
    scheduler: Any
    lora_targets = (
        r"parts\.(unet|transformer)\..*\."
        r"(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out|to_qkv_mlp_proj)"
    )
    _learnt: dict[str, Any]
    """The replay and the map of latents, once they have been asked for."""

    @property
    @abstractmethod
    def network_name(self) -> str:
        """The name of the part that is called at each step."""

    @property
    def network(self) -> nn.Module:
        """The network that is trained. Raises ValueError unless the pipeline has exactly one of a known name."""
        if self.network_name not in self.parts or "transformer_2" in self.parts:
            raise ValueError(f"a {type(self.pipe).__name__} is not trained here: it needs one unet or transformer")
        return self.parts[self.network_name]

    @property
    def replay(self) -> Replay:
        """Calls the network as stock calls do.

        Raises:
            ValueError: if a stock call cannot be repeated, and why.
        """
        if "replay" not in self._learnt:
            self._learnt["replay"], self._learnt["call"] = self._learn_replay()
        return self._learnt["replay"]

    def _learn_replay(self) -> tuple[Replay, dict[str, Any]]:
        reasons = []
        for call in without_guidance(self.pipe, self.call):
            with watched(self.network, self.scheduler) as one:
                self._ask(PROMPT, 1, STEPS, call)
            if any(len(step.calls) != 1 for step in one):
                reasons.append(f"its network runs {len(one[0].calls)} times in a step")
                continue
            with watched(self.network, self.scheduler) as two:
                self._ask(PROMPT, 2, 1, call)
            try:
                return Replay(one, two), call
            except ValueError as error:
                reasons.append(str(error))
        raise ValueError(f"a {type(self.pipe).__name__} cannot be trained as AnyPipeline: {reasons[-1]}")

    @torch.no_grad()
    def _ask(self, prompt: str, rows: int, steps: int, call: dict[str, Any], output: str = "latent") -> None:
        """Makes a stock call whose result is not used."""
        streams = Generators(range(rows)).streams
        told = {"prompt": [prompt] * rows, "num_inference_steps": steps, "generator": streams, "output_type": output}
        bar = functools.partial(tqdm, disable=True)
        with ExitStack() as stack:
            for owner, name, value in ((self.pipe, "scheduler", self.scheduler), (self.pipe, "progress_bar", bar)):
                stack.enter_context(replaced(owner, name, value))
            stack.enter_context(spaced(self.scheduler))
            stack.enter_context(self.active())
            self.pipe(**told, **call)

    def told(self, prompts: Sequence[str]) -> Condition:
        """The condition of prompts, see `Backbone.told`; there is one stock call for each distinct prompt."""
        replay, call = self.replay, self._learnt["call"]
        rows: dict[str, dict[str, Tensor]] = {}
        for prompt in dict.fromkeys(prompts):
            if not prompt.strip():
                raise ValueError("the prompt is empty: write what the picture shows")
            with first_call(self.network) as heard:
                self._ask(prompt, 1, 1, call)
            self.pipe.maybe_free_model_hooks()
            rows[prompt] = replay.rows(heard)
        return {name: stacked([rows[prompt][name] for prompt in prompts]) for name in replay.names}

    @property
    def latents(self) -> LatentMap:
        """How clean samples become what the autoencoder decodes."""
        if "latents" not in self._learnt:
            self._learnt["latents"] = learn_map(self._given, self.replay.shape)
        return self._learnt["latents"]

    @property
    @torch.no_grad()
    def size(self) -> tuple[int, int]:
        """Height and width, in pixels, of the picture of a clean sample."""
        rank, (rows, columns) = len(self.latents.z_shape), self.latents.z_shape[-2:]
        if "unit" not in self._learnt:
            picture = torch.zeros(1, 3, PROBED, PROBED, device=self.device)
            self._learnt["unit"] = PROBED // modes(self.pipe.vae, picture, 1 + rank).shape[-1]
        return rows * self._learnt["unit"], columns * self._learnt["unit"]

    def _given(self, x0: Tensor) -> Tensor:
        """What the pipeline would pass to its autoencoder for x0 (B, *S), in float32."""
        vae, dtype, found = self.pipe.vae, self.pipe.vae.dtype, list[Tensor]()

        def answer(output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> SchedulerOutput:
            return SchedulerOutput(prev_sample=x0.to(sample.device))

        def decode(z: Tensor, *args: Any, **kwargs: Any) -> None:
            found.append(z)
            raise Enough

        nn.Module.float(vae)
        try:
            with replaced(self.scheduler, "step", answer), replaced(vae, "decode", decode):
                self._ask(PROMPT, len(x0), 1, self._learnt["call"], "pt")
        except Enough:
            self.pipe.maybe_free_model_hooks()
        finally:
            nn.Module.to(vae, dtype)
        return found[0]

    @property
    def height(self) -> int:
        return self.size[0]

    @property
    def width(self) -> int:
        return self.size[1]

    @torch.no_grad()
    def x0_of(self, samples: Tensor) -> Tensor:
        """Encodes pixels (B, 3, H, W) in [0, 1] as the mode of latents (B, *S) float32, as the scheduler steps them.

        Raises:
            ValueError: for samples of any other kind, such as bytes, or pictures of another size than the model's.
        """
        check_pictures(self, samples)
        return self.latents.inverse(modes(self.pipe.vae, samples, 1 + len(self.latents.z_shape)))

    def corrupt(self, x0: Tensor, t: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draws alpha x0 + sigma eps for x0 (B, *S) and t (B,)."""
        return noised(self.schedule, x0, t, generator)

    def error(self, x0: Tensor, x_t: Tensor, t: Tensor, condition: Condition) -> Tensor:
        """The mean squared error of the network's own prediction (eps, v or velocity), without guidance: (B,)."""
        output = self.replay(self.network, x_t, t, condition).to(x_t.dtype)
        target = from_x0(x0, x_t, *coefficients(self.schedule, x_t, t), kind_of(self.scheduler))
        return (output - target).square().flatten(1).mean(1)

    def frozen_copy(self) -> Self:
        """A second network with the same weights around the same text encoders and autoencoder."""
        pipe = copy.copy(self.pipe)
        setattr(pipe, self.network_name, copy.deepcopy(self.network).requires_grad_(False).eval())
        return self.around(pipe)

    def export_lora(self, folder: str | Path, write: bool = True) -> None:
        """Writes the trained adapters so that `pipe.load_lora_weights(folder)` of stock diffusers loads them.

        They are multiplied by their scale, alpha / rank.

        Raises:
            ValueError: if there are no trained adapters, or if the pipeline's class loads none.
        """
        if not hasattr(self.pipe, "save_lora_weights"):
            raise ValueError(f"a {type(self.pipe).__name__} of diffusers loads no LoRA: use the checkpoint")
        state = own_weights(self.network)
        if write:
            self.pipe.save_lora_weights(folder, **{f"{self.network_name}_lora_layers": state})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self._learnt.clear()  # tensors of a device
        return super()._apply(fn, recurse)


def without_guidance(pipe: Any, call: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The call itself, for a pipeline whose guidance is distilled or off, then calls that switch guidance off."""
    yield call
    taken = inspect.signature(type(pipe).__call__).parameters
    kept = {key: value for key, value in call.items() if not key.startswith("negative_prompt")}
    for scale in SCALES:
        if scale in taken:
            yield from ({**kept, scale: off} for off in OFF)
