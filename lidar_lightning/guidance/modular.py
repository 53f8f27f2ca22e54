"""LiDAR as blocks of diffusers' modular pipelines: one draws and scores the bank, one guides each step by it."""

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from diffusers.modular_pipelines.modular_pipeline import (
    LoopSequentialPipelineBlocks,
    ModularPipelineBlocks,
    PipelineState,
)
from diffusers.modular_pipelines.modular_pipeline_utils import InputParam, OutputParam
from torch import Tensor, nn

from lidar_lightning.backbones.vae import latent_space
from lidar_lightning.guidance.calls import check_aspect, check_prompts
from lidar_lightning.guidance.lidar import LiDARGuidance
from lidar_lightning.guidance.pipelines import guidance_of, why_not
from lidar_lightning.guidance.settings import LiDARSettings
from lidar_lightning.lookahead.bank import LookaheadBank, Provenance
from lidar_lightning.rewards import Reward
from lidar_lightning.solvers.scheduler import digest
from lidar_lightning.solvers.stock import moved, recorded
from lidar_lightning.utils.chunks import in_chunks
from lidar_lightning.utils.seeding import Generators, stream_seed
from lidar_lightning.utils.weights import fingerprint, weights_at_hand

FILE = '''"""LiDAR as a block of a modular pipeline: needs `pip install lidar-lightning`."""

from lidar_lightning.guidance.modular import {0}

__all__ = ["{0}"]
'''
TOLD = (
    "prompt", "negative_prompt", "num_images_per_prompt", "num_videos_per_prompt", "generator", "num_inference_steps",
    "output_type", "latents", "timesteps", "sigmas",
)  # fmt: skip
"""Inputs of a pipeline that the runs of a bank decide, or, of the negative prompt, repeat."""


class LiDARBlock(ModularPipelineBlocks):
    """A block that can be saved as a custom block of the hub: a folder with its configuration and the code that imports
    it."""

    def save_pretrained(self, save_directory: str | Path, push_to_hub: bool = False, **options: Any) -> None:
        """Writes the block; `ModularPipelineBlocks.from_pretrained(folder, trust_remote_code=True)` loads it, and takes
        its arguments."""
        name, folder = type(self).__name__, Path(save_directory)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "lidar_block.py").write_text(FILE.format(name))
        self.register_to_config(auto_map={"ModularPipelineBlocks": f"lidar_block.{name}"})
        self.save_config(folder, push_to_hub=push_to_hub, **options)


class LiDARStep(LiDARBlock):
    """Guides the prediction of a step; it stands in the loop between `denoiser` and `after_denoiser`.

    Args:
        reward, same_space: see `guide`.
        scale, temperature, ess, start, stop: see `LiDARSettings`. Each is named here, since only what is named can be
            given to `from_pretrained`.
    """

    def __init__(
        self,
        reward: str | Reward | None = None,
        same_space: bool = False,
        scale: float = 1.0,
        temperature: float | None = None,
        ess: float | None = None,
        start: float = 1.0,
        stop: float = 0.0,
    ):
        super().__init__()
        self.reward, self.same_space = reward, same_space
        self.settings = LiDARSettings(scale, temperature, ess, start, stop)

    @property
    def description(self) -> str:
        return "Moves the prediction of each step by the closed form of a scored bank of lookahead samples (LiDAR)."

    @property
    def inputs(self) -> list[InputParam]:
        told = "The scored bank of the prompt, or a list of one for each prompt. Can be drawn by LiDARBankStep."
        sizes = [InputParam(name) for name in ("prompt", "height", "width")]
        return [InputParam("lidar_bank", required=True, type_hint=LookaheadBank, description=told), *sizes]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        told = "The guidance, whose take_diagnostics says what each step did."
        return [OutputParam("lidar_guidance", type_hint=LiDARGuidance, description=told)]

    @torch.no_grad()
    def __call__(self, components: Any, block_state: Any, i: int, t: Tensor) -> tuple[Any, Any]:
        if i == 0:
            given = block_state.lidar_bank
            banks = [given] if isinstance(given, LookaheadBank) else list(given)
            check_prompts(banks, block_state.prompt)
            check_aspect(banks, block_state.height, block_state.width)
            device = block_state.latents.device
            block_state.lidar_times = []
            block_state.lidar_guidance = guidance_of(
                components, banks, self.reward, self.settings, self.same_space, device
            )

        def change(x_t: Tensor, time: float) -> Tensor | None:
            block_state.lidar_times.append(time)
            return block_state.lidar_guidance.change(x_t, time)

        block_state.noise_pred = moved(components.scheduler, change, block_state.noise_pred, t, block_state.latents)
        if i == len(block_state.timesteps) - 1 and not block_state.lidar_guidance.diagnostics:
            why = why_not(block_state.lidar_times, self.settings.start, self.settings.stop)
            warnings.warn(f"guidance never ran: {why}", stacklevel=2)
        return components, block_state


class LiDARBankStep(LiDARBlock):
    """Draws and scores the bank of each prompt, by runs of the pipeline's own other blocks with few steps.

    It stands before all blocks that it runs, and passes on to them what the pipeline was called with.
    """

    @property
    def description(self) -> str:
        return "Draws lookahead samples by short runs of the pipeline itself, and scores them (LiDAR)."

    @property
    def inputs(self) -> list[InputParam]:
        return [
            InputParam("prompt", required=True),
            InputParam("lidar_rewards", required=True, description="Rewards of pictures that score the lookaheads."),
            InputParam("lidar_lookaheads", default=50, description="Lookahead samples for each prompt."),
            InputParam("lidar_steps", default=8, description="Network calls of each lookahead sample."),
            InputParam("lidar_batch_size", default=8, description="Lookahead samples of one run."),
            InputParam("lidar_seed", default=0, description="Of the lookaheads."),
        ]

    @property
    def intermediate_outputs(self) -> list[OutputParam]:
        return [OutputParam("lidar_bank", type_hint=list, description="The scored bank of each prompt.")]

    @torch.no_grad()
    def __call__(self, components: Any, state: PipelineState) -> tuple[Any, PipelineState]:
        told: Any = self.get_block_state(state)
        plain = copy.copy(components)
        plain._blocks = without_lidar(components.blocks)
        prompts = [told.prompt] if isinstance(told.prompt, str) else list(told.prompt)
        banks = {prompt: self.drawn(plain, state, told, prompt) for prompt in dict.fromkeys(prompts)}
        told.lidar_bank = [banks[prompt] for prompt in prompts]
        self.set_block_state(state, told)
        return components, state

    def drawn(self, plain: Any, state: PipelineState, told: Any, prompt: str) -> LookaheadBank:
        """The scored bank of a prompt by a pipeline without blocks of ours."""
        taken = {one.name: state.get(one.name) for one in plain._blocks.inputs if one.name not in (None, *TOLD)}
        taken = {name: value for name, value in taken.items() if value is not None}
        negative: Any = state.get("negative_prompt")
        n, steps = told.lidar_lookaheads, told.lidar_steps
        seeds = [stream_seed(told.lidar_seed, f"lookahead\0{prompt}", number) for number in range(n)]
        pictures: list[Tensor] = []

        def draw(start: int, stop: int) -> Tensor:
            count = stop - start
            if negative is not None:
                taken["negative_prompt"] = [negative] * count if isinstance(negative, str) else negative[:1] * count
            with recorded(plain.scheduler) as found:
                made = plain(
                    prompt=[prompt] * count, generator=Generators(seeds[start:stop]).streams,
                    num_inference_steps=steps, output_type="pt", **taken,
                )  # fmt: skip
            pictures.append(made.get("images", made.get("videos")).float().clamp(0, 1))
            return found[0].float()

        samples = torch.cat(in_chunks(draw, n, told.lidar_batch_size))
        shown = torch.cat(pictures)
        name = type(plain).__name__
        parts = [part for _, part in sorted(plain.components.items()) if isinstance(part, nn.Module)]
        provenance = Provenance(
            prompt, name, fingerprint(name, *map(weights_at_hand, parts)),
            latent_space(plain.vae, tuple(samples.shape[1:]), shown.shape[-2], shown.shape[-1]),
            f"{name}({type(plain.scheduler).__name__}, config={digest(dict(plain.scheduler.config))})",
            steps, n, told.lidar_seed,
        )  # fmt: skip
        return LookaheadBank(samples, {}, provenance).scored(told.lidar_rewards, lambda _: shown)


def add_lidar(blocks: ModularPipelineBlocks, bank: bool = True, **settings: Any) -> ModularPipelineBlocks:
    """Puts LiDAR into the blocks of a pipeline: a `LiDARStep` into each loop that denoises, a `LiDARBankStep` first.

    Args:
        blocks: of the whole pipeline; they are changed.
        bank: whether it draws its banks; otherwise it is called with `lidar_bank`.
        settings: of `LiDARStep`.

    Raises:
        ValueError: if there is no such loop.
    """
    loops = [one for one in (blocks, *within(blocks)) if isinstance(one, LoopSequentialPipelineBlocks)]
    loops = [one for one in loops if "after_denoiser" in one.sub_blocks]
    if not loops:
        raise ValueError(f"the blocks {type(blocks).__name__} have no loop with an after_denoiser, where LiDAR acts")
    for loop in loops:
        loop.sub_blocks.insert("lidar", LiDARStep(**settings), list(loop.sub_blocks).index("after_denoiser"))
    if bank:
        blocks.sub_blocks.insert("lidar_bank", LiDARBankStep(), 0)
    return blocks


def within(blocks: ModularPipelineBlocks) -> Iterator[ModularPipelineBlocks]:
    """All blocks inside of a block."""
    for block in blocks.sub_blocks.values():
        yield block
        yield from within(block)


def without_lidar(blocks: ModularPipelineBlocks) -> ModularPipelineBlocks:
    """The same blocks but for ours."""
    for block in (blocks, *within(blocks)):
        for name in [name for name, one in block.sub_blocks.items() if isinstance(one, LiDARBlock)]:
            block.sub_blocks.pop(name)
    return blocks
