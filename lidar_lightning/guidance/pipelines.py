"""LiDAR inside any stock diffusers pipeline, by editing the predictions that its scheduler receives."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.backbones.vae import vae_fingerprint
from lidar_lightning.guidance.calls import calls_checked
from lidar_lightning.guidance.lidar import LiDARGuidance
from lidar_lightning.guidance.settings import LiDARSettings
from lidar_lightning.lookahead.bank import LookaheadBank, check_space, check_together
from lidar_lightning.rewards import Reward
from lidar_lightning.solvers.scheduler import check_scheduler, schedule_of
from lidar_lightning.solvers.stock import edited


@contextmanager
def guide(
    pipe: Any,
    bank: LookaheadBank | Sequence[LookaheadBank],
    reward: str | Reward | None = None,
    same_space: bool = False,
    **settings: Any,
) -> Iterator[LiDARGuidance]:
    """Steers a diffusers pipeline, text to image or any other that steps latents with one supported scheduler.

        with guide(pipe, bank, ess=0.1):
            images = pipe(prompt, num_images_per_prompt=4).images

    Inside the block, `pipe.scheduler.step` receives the network's prediction (after classifier-free guidance) moved by
    `slope * scale * shift`, so that the clean sample that it means moves by scale * shift; steps without guidance are
    untouched. At its end the pipeline is as it was, and a warning says so if no step was guided. Saving and loading the
    pipeline inside the block works too.

    Args:
        pipe: the pipeline. Nothing of it but `pipe.scheduler.step` and `pipe.check_inputs` is replaced.
        bank: the scored bank of the prompt, or a list of one for each prompt of the call, in their order.
        reward: the reward to raise (or to lower, if lower is better), or the name of one whose scores the bank holds;
            it may be None if the bank holds just one.
        same_space: says that the latents of the bank mean the same to the pipeline although its VAE differs
            (sdxl-vae-fp16-fix, a tiny decoder); a warning names both where that matters.
        settings: scale, temperature, ess, start and stop, see `LiDARSettings`.

    Yields:
        the guidance, whose `take_diagnostics` says what each step did.

    Raises:
        ValueError: if the scheduler is not supported, if a setting is out of range, if a bank lacks these scores, or if
            the banks differ in shape or are of another latent space than the pipeline's; when the pipeline is called,
            if its prompts or its size are not those of the banks.
    """
    scheduler, given = pipe.scheduler, LiDARSettings(**settings)
    if given != replace(given, restart=None, candidates=1, rounds=1, moves=0):
        raise ValueError(
            "guide steers a run of the pipeline, and begins or chooses none: for a restart call the image-to-image "
            f"pipeline with strength=t0 inside, and choose among its images yourself, got {settings}"
        )
    banks = [bank] if isinstance(bank, LookaheadBank) else list(bank)
    guidance = guidance_of(pipe, banks, reward, given, same_space, pipe._execution_device)
    times: list[float] = []
    guided: list[float] = []

    def change(x_t: Tensor, t: float) -> Tensor | None:
        moved = guidance.change(x_t, t)
        times.append(t)
        guided.extend([] if moved is None else [t])
        return moved

    with edited(scheduler, change), calls_checked(pipe, banks):
        yield guidance
    if not guided:
        warnings.warn(
            f"guidance never ran: {why_not(times, guidance.settings.start, guidance.settings.stop)}", stacklevel=3
        )


def guidance_of(
    pipe: Any,
    banks: Sequence[LookaheadBank],
    reward: str | Reward | None,
    settings: LiDARSettings,
    same_space: bool,
    device: torch.device,
) -> LiDARGuidance:
    """The guidance of a pipeline by the banks of its prompts, on the device where it computes.

    With CPU offload, that is not `pipe.device`, which is where the weights wait.

    Raises:
        ValueError: for an unsupported scheduler, a bank without these scores, banks of several shapes or of another
            latent space than the pipeline's.
    """
    check_scheduler(pipe.scheduler)
    check_together(banks)
    space, model = own_space(pipe), f"this {type(pipe).__name__}"
    for one in banks:
        check_space(one.provenance, f"{space}-{one.provenance.space.rpartition('-')[2]}", model, same_space)
    return LiDARGuidance(
        torch.stack([one.samples for one in banks]).to(device),
        torch.stack([utilities(one, reward) for one in banks]).to(device),
        schedule_of(pipe.scheduler),
        settings,
    )


def why_not(times: list[float], start: float, stop: float) -> str:
    """Says why none of the steps at these times was guided."""
    if not times:
        return "the scheduler that the pipeline had took no step; was the pipeline called, and with this scheduler?"
    return (
        f"all {len(times)} steps were at t from {max(times):.2f} to {min(times):.2f}, and it runs while "
        f"{stop} < t <= {start}; a low strength of image to image, or a late restart, leaves out the high ones"
    )


def utilities(bank: LookaheadBank, reward: str | Reward | None) -> Tensor:
    """What guidance maximises (n,): the scores of a bank, or their negative if the bank says that lower is better.

    Raises:
        ValueError: if the bank has no such scores, or if it has several and no reward is named.
    """
    if isinstance(reward, Reward):
        return reward.from_scores(bank.rewards)
    if reward is None and len(bank.rewards) != 1:
        raise ValueError(f"the bank holds the rewards {sorted(bank.rewards)}: say which one to raise")
    name = reward or next(iter(bank.rewards))
    if name not in bank.rewards:
        raise ValueError(f"the bank has no scores of {name!r}, only of {sorted(bank.rewards)}: score it first")
    if name not in bank.higher_is_better:
        warnings.warn(
            f"the bank does not say what the scores of {name!r} mean: higher is taken as better; where lower is, give "
            "the reward itself",
            stacklevel=5,
        )
    return bank.rewards[name] if bank.higher_is_better.get(name, True) else -bank.rewards[name]


def own_space(pipe: Any) -> str:
    """The name of a pipeline's latent space, without the size. Raises ValueError if it has no autoencoder."""
    vae = getattr(pipe, "vae", None)
    if vae is None:
        raise ValueError(f"banks hold latents of a VAE, and this {type(pipe).__name__} has none")
    return vae_fingerprint(vae)
