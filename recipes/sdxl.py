"""SDXL: `python -m recipes.sdxl lidar --prompts FILE`, or `dpo --path FOLDER` and `lidar --checkpoint`."""

from lidar_lightning import Lookahead, StableDiffusionXL
from lidar_lightning.rewards import ImageReward, Reward
from recipes.text_to_image import fine_tune, sample

MODEL = "stabilityai/stable-diffusion-xl-base-1.0"


def lidar(
    prompts: list[str] | str,
    out: str = "outputs/sdxl/lidar",
    model: str = MODEL,
    dtype: str = "float16",
    reward: Reward | None = None,
    preset: str | None = "dpm-8-karras",
    n: int = 50,
    steps: int = 100,
    samples: int = 4,
    batch_size: int = 2,
    size: int | None = None,
    method: str = "lidar",
    checkpoint: str | None = None,
) -> str:
    """Draws pictures for every prompt, guided by ImageReward or another reward; preset=None draws without guidance.

    Pictures are `size` pixels wide and high, by default what the model was trained on.
    """
    backbone = StableDiffusionXL.from_pretrained(
        model, dtype=dtype, height=size, width=size, scheduler="DDIMScheduler", eta=1.0
    )
    lookahead = Lookahead(n=n, preset=preset, batch_size=2 * batch_size) if preset else None
    return sample(
        backbone, reward or ImageReward(), prompts, out, lookahead, samples, batch_size, checkpoint,
        steps=steps, scale=12.5, ess=0.05, stop=0.2, method=method,
    )  # fmt: skip


def dpo(
    path: str,
    out: str = "outputs/sdxl/dpo",
    model: str = MODEL,
    reward: Reward | None = None,
    size: int | None = None,
    steps: int = 2000,
) -> str:
    """Fine-tunes on a folder of picture pairs, or on the scored banks of a `lidar` run and a reward."""
    backbone = StableDiffusionXL.from_pretrained(model, dtype="float32", height=size, width=size)
    return fine_tune(backbone, path, out, beta=5000.0, reward=reward, steps=steps)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli([lidar, dpo])
