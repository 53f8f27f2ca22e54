"""What a step of DPO costs: `python -m benchmarks.training` writes benchmarks/training.md.

Ours is `lidar fit`: Lightning's Trainer, `DPOModule` and a LoRA of rank 16 on the networks that ship. Beside it runs a
plain loop on stock diffusers and peft: the same network, layers, batch and optimizer, noise shared by chosen and
rejected and by policy and reference, and the reference by switching the LoRA off, without gradient. Each training is a
process of its own, both in turn. Seconds are of processor time, so that other work on the machine counts little; memory
is how far the resident size rises above that of the loaded pipeline. The bars: at most 1.05 of the plain loop's
seconds, at most its memory, to 2 percent.
"""

import multiprocessing
import platform
import re
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from diffusers import FluxPipeline, StableDiffusionPipeline
from jsonargparse import auto_cli
from peft import LoraConfig
from torch import Tensor
from torch.utils.data import DataLoader

from lidar_lightning import AnyPipeline, DPOModule, StableDiffusion
from lidar_lightning.assets import asset_path
from lidar_lightning.backbones.adapters import LoRA

MODELS: dict[str, Any] = {"shapes-sd": StableDiffusionPipeline, "shapes-flux": FluxPipeline}
SHAPES = {"shapes-sd": (4, 16, 16), "shapes-flux": (64, 16)}
TARGETS = r".*\.(to_q|to_k|to_v|to_out\.0|add_q_proj|add_k_proj|add_v_proj|to_add_out)"
BETA, RANK, RATE = 100.0, 16, 1e-4
TOKENS = 64
"""Of the prompt, that the flow transformer reads."""
PROMPT = "a red circle left of a blue square"
BARS = 1.05, 1.02


def load(model: str) -> Any:
    pipe = MODELS[model].from_pretrained(asset_path(model))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def pairs_of(model: str, pairs: int) -> Tensor:
    """Chosen and rejected latents (2, pairs, *S)."""
    return torch.randn(2, pairs, *SHAPES[model], generator=torch.Generator().manual_seed(0))


class Seconds(L.Callback):
    """Of processor time, of each training step."""

    def __init__(self) -> None:
        self.steps: list[float] = []

    def on_train_batch_start(self, *rest: Any) -> None:
        self.begin = time.process_time()

    def on_train_batch_end(self, *rest: Any) -> None:
        self.steps.append(time.process_time() - self.begin)


def ours(model: str, pairs: int, steps: int, checkpointing: bool, started: Callable[[], None]) -> list[float]:
    """Seconds of each step of `trainer.fit`."""
    pipe = load(model)
    size = 16 * pipe.vae_scale_factor
    call = {"height": size, "width": size, "max_sequence_length": TOKENS}
    backbone: Any = StableDiffusion(pipe) if model == "shapes-sd" else AnyPipeline(pipe, call)
    module = DPOModule(backbone, BETA, LoRA(RANK, RANK), RATE, draws=1, warmup=0, checkpointing=checkpointing)
    condition = {name: rows[0] for name, rows in backbone.told([PROMPT]).items() if not name.startswith("negative_")}
    items = [
        {"chosen": chosen, "rejected": rejected, "prompt": PROMPT, "condition": condition}
        for chosen, rejected in zip(*pairs_of(model, pairs), strict=True)
    ]
    seconds = Seconds()
    trainer = L.Trainer(
        max_steps=steps, max_epochs=-1, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[seconds],
    )  # fmt: skip
    started()
    trainer.fit(module, DataLoader(items, batch_size=pairs))  # type: ignore[arg-type]
    return seconds.steps


def plain(model: str, pairs: int, steps: int, checkpointing: bool, started: Callable[[], None]) -> list[float]:
    """Seconds of each step of a loop on diffusers and peft."""
    pipe = load(model)
    network = (pipe.unet if model == "shapes-sd" else pipe.transformer).requires_grad_(False)
    network.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=TARGETS))
    if checkpointing:
        network.enable_gradient_checkpointing()
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0)
    error = (unet_error if model == "shapes-sd" else flux_error)(pipe, 2 * pairs)
    x0 = pairs_of(model, pairs).flatten(0, 1)
    seconds = []
    started()
    for _ in range(steps):
        begin = time.process_time()
        noise = torch.randn(x0[:pairs].shape).repeat(2, *[1] * (x0.ndim - 1))
        t = torch.rand(pairs).repeat(2)
        network.disable_adapters()
        with torch.no_grad():
            reference = error(x0, noise, t)
        network.enable_adapters()
        chosen, rejected = (error(x0, noise, t) - reference).chunk(2)
        loss = -F.logsigmoid(-BETA / 2 * (chosen - rejected)).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.process_time() - begin)
    return seconds


@torch.no_grad()
def unet_error(pipe: Any, rows: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    embeds = pipe.encode_prompt([PROMPT], "cpu", 1, False)[0].repeat(rows, 1, 1)

    def error(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        timesteps = (t * pipe.scheduler.config.num_train_timesteps).long()
        noisy = pipe.scheduler.add_noise(x0, noise, timesteps)
        output = pipe.unet(noisy, timesteps, encoder_hidden_states=embeds, return_dict=False)[0]
        return (output - noise).square().mean((1, 2, 3))

    return error


@torch.no_grad()
def flux_error(pipe: Any, rows: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    embeds, pooled, text_ids = pipe.encode_prompt([PROMPT], None, "cpu", max_sequence_length=TOKENS)
    side = int(SHAPES["shapes-flux"][0] ** 0.5)
    told = {
        "encoder_hidden_states": embeds.repeat(rows, 1, 1), "pooled_projections": pooled.repeat(rows, 1),
        "txt_ids": text_ids, "img_ids": pipe._prepare_latent_image_ids(rows, side, side, "cpu", embeds.dtype),
        "guidance": None, "return_dict": False,
    }  # fmt: skip

    def error(x0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        noisy = torch.lerp(x0, noise, t[:, None, None])
        output = pipe.transformer(hidden_states=noisy, timestep=t, **told)[0]
        return (output - (noise - x0)).square().mean((1, 2))

    return error


def resident(what: str) -> int:
    """Bytes: VmRSS is the resident size now, VmHWM its highest since `clear_refs` was written."""
    found = re.search(rf"{what}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return 1024 * int(found[1]) if found else 0


def measured(side: str, *arguments: Any) -> tuple[list[float], int]:
    """Seconds of all steps but the first, and bytes above the start, of a training in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    begin = 0

    def started() -> None:
        nonlocal begin
        Path("/proc/self/clear_refs").write_text("5")
        begin = resident("VmRSS")

    seconds = {"ours": ours, "plain": plain}[side](*arguments, started)
    return seconds[1:], resident("VmHWM") - begin


def in_turn(repeats: int, *arguments: Any) -> dict[str, tuple[float, float]]:
    """Median seconds of a step and median MiB, of each side."""
    found: dict[str, list[tuple[list[float], int]]] = {"ours": [], "plain": []}
    for repeat in range(repeats):
        for side in ("ours", "plain") if repeat % 2 else ("plain", "ours"):
            with multiprocessing.get_context("fork").Pool(1) as pool:
                found[side].append(pool.apply(measured, (side, *arguments)))
    return {
        side: (median(s for steps, _ in runs for s in steps), median(memory for _, memory in runs) / 2**20)
        for side, runs in found.items()
    }


def main(
    models: list[str] = list(MODELS),  # noqa: B006
    pairs: int = 16,
    steps: int = 6,
    repeats: int = 3,
    out: str | None = "benchmarks/training.md",
) -> None:
    """Writes the table, and says whether the bars are kept.

    Args:
        pairs: in a batch.
        steps: of each training; the first is not counted.
        repeats: trainings of each side.
        out: None prints only.
    """
    lines = [
        "# What a step of DPO costs\n",
        f"`python -m benchmarks.training --pairs {pairs} --steps {steps} --repeats {repeats}`",
        f"on one thread of {platform.machine()}, torch {torch.__version__}; seconds are of processor time.\n",
        "| network | checkpointing | ours s | plain s | ratio | ours MiB | plain MiB | ratio | kept |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model in models:
        for checkpointing in (False, True):
            (s, m), (s_plain, m_plain) = in_turn(repeats, model, pairs, steps, checkpointing).values()
            kept = "yes" if s <= BARS[0] * s_plain and m <= BARS[1] * m_plain else "no"
            lines.append(
                f"| {model} | {'yes' if checkpointing else 'no'} | {s:.3f} | {s_plain:.3f} | {s / s_plain:.3f} | "
                f"{m:.0f} | {m_plain:.0f} | {m / m_plain:.3f} | {kept} |"
            )
            print(lines[-1], flush=True)
    if out:
        Path(out).write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    auto_cli(main)
