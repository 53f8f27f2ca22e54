"""LiDAR inside any stock diffusers pipeline, by editing what its scheduler is told."""

import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lidar_lightning.backbones.vae import vae_fingerprint
from lidar_lightning.bank import LookaheadBank
from lidar_lightning.guidance.lidar import LiDARGuidance
from lidar_lightning.parametrisation import slope
from lidar_lightning.rewards import Reward
from lidar_lightning.solvers.scheduler import check_scheduler, kind_of, scale_of, schedule_of


@contextmanager
def guide(
    pipe: Any,
    bank: LookaheadBank | Sequence[LookaheadBank],
    reward: str | Reward | None = None,
    scale: float = 1.0,
    temperature: float | None = None,
    ess: float | None = None,
    start: float = 1.0,
    stop: float = 0.0,
) -> Iterator[LiDARGuidance]:
    """Steers a diffusers pipeline, text to image or any other that steps latents with one supported scheduler.

        with guide(pipe, bank, ess=0.1):
            images = pipe(prompt, num_images_per_prompt=4).images

    Inside, `pipe.scheduler.step` receives the network's prediction (after classifier-free guidance) moved by `slope *
    scale * shift`, so that the clean sample that it means moves by scale * shift; steps without guidance are untouched.
    On exit the scheduler is as it was; saving and loading the pipeline inside works too.

    Args:
        pipe: the pipeline. Nothing but `pipe.scheduler` is touched.
        bank: the scored bank of the prompt, or one for each of the prompts of the call, in their order.
        reward: what to raise: a reward, or the name of one whose scores the bank holds; None if it holds just one.
        scale, temperature, ess, start, stop: of `LiDARGuidance`; without temperature and ess, ess is 0.1.

    Yields:
        the guidance, whose `take_diagnostics` says what each step did.

    Raises:
        ValueError: for an unsupported scheduler, settings out of range, a bank without these scores, or a bank of
            another latent space than the pipeline's, when entering or at the first step.
    """
    scheduler = pipe.scheduler
    check_scheduler(scheduler)
    banks = [bank] if isinstance(bank, LookaheadBank) else list(bank)
    for one in banks:
        check_space(one, pipe)
    if temperature is None and ess is None:
        ess = 0.1
    guidance = LiDARGuidance(
        torch.stack([one.samples for one in banks]).to(pipe.device),
        torch.stack([utilities(one, reward) for one in banks]).to(pipe.device),
        schedule_of(scheduler),
        scale=scale, temperature=temperature, ess=ess, start=start, stop=stop,
    )  # fmt: skip
    kind, total = kind_of(scheduler), scheduler.config.num_train_timesteps
    plain, own = scheduler.step, "step" not in vars(scheduler)

    @functools.wraps(plain)
    def step(model_output: Tensor, timestep: Any, sample: Tensor, *args: Any, **kwargs: Any) -> Any:
        t = float(timestep) / total
        # Schedulers whose samples are scaled have set their step_index in scale_model_input.
        scaled = scale_of(scheduler, getattr(scheduler, "step_index", 0))
        change = guidance.change(sample.float() / scaled, t)
        if change is not None:
            alpha, sigma = guidance.schedule(torch.tensor(t, dtype=torch.float64))
            factor = float(slope(alpha, sigma, kind))
            model_output = model_output + (factor * change).to(model_output.dtype)
        return plain(model_output, timestep, sample, *args, **kwargs)

    scheduler.step = step
    try:
        yield guidance
    finally:
        scheduler.step = plain
        if own:
            del scheduler.step


def utilities(bank: LookaheadBank, reward: str | Reward | None) -> Tensor:
    """What guidance maximises, from the scores of a bank (n,); a name is taken as higher is better.

    Raises:
        ValueError: if the bank has no such scores, or several and no reward is named.
    """
    if isinstance(reward, Reward):
        return reward.from_scores(bank.rewards)
    if reward is None and len(bank.rewards) != 1:
        raise ValueError(f"the bank holds the rewards {sorted(bank.rewards)}: say which one to raise")
    name = reward or next(iter(bank.rewards))
    if name not in bank.rewards:
        raise ValueError(f"the bank has no scores of {name!r}, only of {sorted(bank.rewards)}: score it first")
    return bank.rewards[name]


def check_space(bank: LookaheadBank, pipe: Any) -> None:
    """Raises ValueError if a bank was drawn in the latent space of another VAE than the pipeline's."""
    own, given = vae_fingerprint(pipe.vae), bank.provenance.space.rsplit("-", 1)[0]
    if own != given:
        raise ValueError(
            f"the bank of {bank.provenance.prompt!r} was drawn by {bank.provenance.backbone!r} in the latent space "
            f"{bank.provenance.space!r}, but the VAE of this {type(pipe).__name__} is {own!r}: draw it with this VAE"
        )
