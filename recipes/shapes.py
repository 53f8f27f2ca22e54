"""The shapes task: `python -m recipes.shapes lidar`, or `banks` and `dpo`, or `tune`, and then `lidar --checkpoint`."""

import json
import random
from typing import Literal

from datamodules import ShapesDataModule
from lidar_lightning import BankStore, Flux, Lookahead, RewardTuningModule, StableDiffusion
from lidar_lightning.assets import asset_path
from lidar_lightning.backbones.pipeline import PipelineBackbone
from lidar_lightning.rewards import ShapesReward, ShapesVerdict
from lidar_lightning.shapes.grammar import LENGTH, draw_prompt, held_out_prompts
from lidar_lightning.shapes.render import SIZE
from lidar_lightning.utils.files import expand
from lidar_lightning.utils.progress import advance, working
from lidar_lightning.utils.seeding import stream_seed
from recipes.text_to_image import fine_tune, fit, sample

MODEL = "shapes-sd"


def load(model: str = MODEL, dtype: str = "float32", lora: str | None = None) -> PipelineBackbone:
    """Loads a shipped model ("shapes-sd", "shapes-flux") or a folder that `recipes.shapes_sd` or `shapes_flux` wrote.

    If the folder of the adapters that `dpo` or `tune` wrote is given, they are loaded too. The model samples without
    classifier-free guidance and by a deterministic solver, which leaves room to improve.

    Raises:
        ValueError: if there is no such model.
    """
    index = (asset_path(model) or expand(model)) / "model_index.json"
    if not index.is_file():
        raise ValueError(f"no model of the shapes task at {model!r}: choose shapes-sd or shapes-flux, or train one")
    adapters = {"tuned": lora} if lora else None
    if json.loads(index.read_text())["_class_name"] == "FluxPipeline":
        return Flux.from_pretrained(model, dtype, lora=adapters, max_sequence_length=LENGTH, height=SIZE, width=SIZE)
    return StableDiffusion.from_pretrained(model, dtype, lora=adapters, guidance_scale=1.0, scheduler="DDIMScheduler")


def lidar(
    out: str = "outputs/shapes/lidar",
    model: str = MODEL,
    preset: str | None = "dpm-5",
    n: int = 40,
    steps: int = 25,
    restart: float | None = 0.6,
    moves: int = 4,
    guided_steps: int = 8,
    scale: float = 0.0,
    ess: float | None = None,
    temperature: float | None = 5000.0,
    stop: float = 0.0,
    prompts: int = 216,
    samples: int = 4,
    batch_size: int = 64,
    seed: int = 0,
    method: str = "lidar",
    checkpoint: str | None = None,
    dtype: str = "float32",
    reward: str = "shapes-reward",
) -> str:
    """Draws `samples` pictures for each of the first `prompts` held-out captions; preset=None draws plain ones.

    The best lookaheads are noised to the time `restart` and moved `moves` times, by a solver of `guided_steps` steps
    (docs/restart.md). The published form is restart null, moves 0, guided_steps 25, n 50, scale 12.5 and stop 0.2.
    ShapesReward guides. ShapesVerdict, which guidance does not see, is scored too; its mean is the accuracy.
    """
    lookahead = Lookahead(n=n, preset=preset) if preset else None
    return sample(
        load(model, dtype), ShapesReward(reward), held_out_prompts()[:prompts], out, lookahead, samples, batch_size,
        checkpoint, steps=guided_steps if preset else steps, scale=scale, ess=ess, temperature=temperature, stop=stop,
        restart=restart, moves=moves, seed=seed, method=method, metrics=[ShapesVerdict()],
    )  # fmt: skip


def banks(
    out: str = "outputs/shapes/banks",
    model: str = MODEL,
    preset: str = "dpm-8",
    n: int = 50,
    prompts: int = 400,
    seed: int = 0,
    reward: str = "shapes-reward",
) -> str:
    """Draws and scores banks of training captions, from which `dpo` makes its pairs.

    A run that was killed goes on where it stopped. Returns the folder of the banks.
    """
    backbone, lookahead = load(model), Lookahead(n=n, preset=preset)
    scorer, store = ShapesReward(reward), BankStore(out)
    drawn = (draw_prompt(random.Random(stream_seed(seed, "bank", i))).text for i in range(4 * prompts))
    texts = list(dict.fromkeys(drawn))[:prompts]
    with working(f"banks of {len(texts)} captions", len(texts)):
        for text in texts:
            lookahead.bank(backbone, text, seed, [scorer], store)
            advance(1)
    return out


def dpo(
    path: str = "outputs/shapes/banks",
    out: str = "outputs/shapes/dpo",
    model: str = MODEL,
    steps: int = 400,
    lr: float = 6e-4,
    beta: float = 200.0,
    pairs: int = 20,
    fraction: float = 0.1,
    decay: float = 1.0,
    batch_size: int = 32,
    reward: str = "shapes-reward",
) -> str:
    """Fine-tunes LoRA adapters on the best against the worst of each bank and returns the path of their checkpoint."""
    return fine_tune(
        load(model), path, out, beta, ShapesReward(reward), steps, lr, rank=16, batch_size=batch_size, accumulate=1,
        precision="32-true", pairs=pairs, fraction=fraction, decay=decay,
    )  # fmt: skip


def tune(
    out: str = "outputs/shapes/draft",
    method: Literal["refl", "draft"] = "draft",
    model: str = MODEL,
    calls: int = 25,
    steps: int = 100,
    lr: float = 3e-4,
    batch_size: int = 16,
    reward: str = "shapes-reward",
) -> str:
    """Fine-tunes LoRA adapters by the gradient of the reward, on samples of training captions.

    Each sample takes `calls` network calls. A run that was killed goes on where it stopped. Returns the path of the
    checkpoint of the adapters.
    """
    module = RewardTuningModule(
        load(model), ShapesReward(reward), method, calls, lr=lr, export=str(expand(out) / "lora")
    )
    return fit(module, ShapesDataModule(batch_size=batch_size), out, steps, accumulate=1, precision="32-true")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli([lidar, banks, dpo, tune])
