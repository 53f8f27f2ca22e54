"""Seconds and memory at full size, each row by a command of its own, beside the published ones.

    python -m benchmarks.full_size --model sd15 --row lidar     one row, on a GPU
    python -m benchmarks.full_size --model sd15                 all rows of a model that are not done yet
    python -m benchmarks.full_size                              what is left to do; writes the table
    python -m benchmarks.full_size --smoke                      one step of SD 1.5 at 256x256 on a CPU

Architectures are genuine and weights random, for neither seconds nor memory depend on them. A row draws, decodes and
scores 4 pictures of one prompt, with the bank where there is one, whose lookaheads are drawn and scored 4 at a time; or
it is one optimizer step of DPO on 4 pairs of latents (LoRA, AdamW). Rows are kept in full-size.json, by device, as soon
as each is done, and full-size.md is written from them. Model and method run in a process of their own.
"""

import argparse
import copy
import ctypes
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.full_size_models import MODELS, FullSize, RandomImageReward
from benchmarks.full_size_table import LABELS, ROWS, WHOLE, table, undone
from lidar_lightning import AnyPipeline, DPOModule, Lookahead
from lidar_lightning.lookahead.presets import preset
from lidar_lightning.rewards import score
from lidar_lightning.samplers import DATE, LiDAR, Task, UniversalGuidance
from lidar_lightning.utils.files import locked, write_atomically
from lidar_lightning.utils.seeding import Generators

PROMPT = "a photo of a red bench left of a green dog"
FOLDER = Path(__file__).parent
PUBLISHED_SETTING: dict[str, Any] = {"scale": 12.5, "temperature": 5000.0, "stop": 0.2}
RESTART = 0.4


def distilled(backbone: Any) -> Any:
    """A second network of the same architecture, which draws as DMD2's of one step does."""
    chosen = preset("dmd2-1")
    pipe = type(backbone.pipe)(**{**backbone.pipe.components, "unet": copy.deepcopy(backbone.network)})
    changes = {"grid": chosen.grid, "eta": 0.0, "scheduler": chosen.scheduler, "guidance_scale": chosen.guidance_scale}
    return type(backbone)(pipe, **{**backbone.settings, **changes, "name": "random+dmd2-1"})


def lookahead(model: FullSize, backbone: Any, n: int, batch: int, dmd: bool) -> Lookahead:
    """n lookaheads by the model's preset, by DMD, or, without a preset, by few steps of its own."""
    if dmd:
        return Lookahead(1, n, distilled(backbone), batch)
    if model.preset:
        return Lookahead(n=n, preset=model.preset, batch_size=batch)
    whole = isinstance(backbone, AnyPipeline)
    source = backbone.variant(call={**backbone.call, "guidance_scale": 0.0}) if whole else None
    return Lookahead(model.few, n, source, batch)


def method(row: str, model: FullSize, backbone: Any, n: int, batch: int) -> Callable[[Task, int], Tensor]:
    """What draws the pictures of a row."""
    if row == "vanilla":
        return lambda task, count: task.solve(task.generators(count))
    if row in ("ug", "date"):
        return UniversalGuidance() if row == "ug" else DATE()
    restart = {"restart": RESTART} if row == "restart" else {}
    return LiDAR(lookahead(model, backbone, n, batch, row == "lidar-dmd"), **PUBLISHED_SETTING, **restart)


def pictures_of(draw: Callable[[Task, int], Tensor], backbone: Any, reward: Any, steps: int, count: int) -> float:
    """Seconds of drawing, decoding and scoring."""
    begin = time.perf_counter()
    solver = backbone.solver(steps) if isinstance(backbone, AnyPipeline) else backbone.random_solver(steps)
    with torch.no_grad():
        task = Task(backbone, solver, reward, PROMPT, 1.0, batch_size=count)
        score(reward, backbone.decode(draw(task, count)), [PROMPT] * count)
    return _now() - begin


def dpo_steps(backbone: Any, model: FullSize, pairs: int, repeats: int, dtype: torch.dtype) -> float:
    """Median seconds of optimizer steps, of which the first is left out."""
    module, seconds = DPOModule(backbone, beta=model.beta, draws=1).to(backbone.device), []
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5)
    chosen, rejected = (backbone.prior(Generators(range(i, i + pairs), backbone.device)) for i in (0, pairs))
    condition = backbone.told([PROMPT] * pairs)
    for step in range(repeats + 1):
        begin = _now()
        with torch.autocast(backbone.device.type, dtype, enabled=dtype != torch.float32):
            terms, _, _ = module.terms(chosen, rejected, torch.Generator().manual_seed(step), condition)
        terms.loss.mean().backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(_now() - begin)
    return median(seconds[1:])


def measure(
    name: str, row: str, device: str, dtype: str = "bfloat16", count: int = 4, steps: int | None = None,
    size: int | None = None, tiny: bool = False, n: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A row: seconds and the peak of memory in GiB, weights included; or why there is none."""
    model, precision = MODELS[name], getattr(torch, dtype)
    steps, n = steps or model.steps, n or (100 if row == "lidar-dmd" else 50)
    told = {"steps": steps, "pictures": count, "dtype": dtype, "torch": torch.__version__}
    torch.manual_seed(0)
    if not (cuda := device.startswith("cuda")):
        told |= {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 1)}
    try:
        backbone: Any = model.build(device, precision, tiny, size)
        if row == "dpo":
            _reset(cuda)
            seconds = dpo_steps(backbone, model, count, 1 if tiny else 3, precision)
        else:
            reward, draw = RandomImageReward(tiny), method(row, model, backbone, n, count)
            score(reward, torch.rand(1, 3, 32, 32, device=device), [PROMPT])
            if cuda:
                pictures_of(method("vanilla", model, backbone, n, count), backbone, reward, 2, count)
            _reset(cuda)
            seconds = pictures_of(draw, backbone, reward, steps, count)
    except torch.OutOfMemoryError:
        return told | {"error": "out of memory"}
    peak = torch.cuda.max_memory_allocated() if cuda else _resident()
    return told | {"seconds": round(seconds, 2), "gib": round(peak / 2**30, 2)}


def _now() -> float:
    """The clock, once the GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _reset(cuda: bool) -> None:
    """Begins to look for the peak of memory anew."""
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    elif sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")


def _resident() -> int:
    """The most bytes that this process held since `_reset` (Linux), or since it began."""
    if sys.platform != "linux":
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def in_a_process(*arguments: Any) -> dict[str, Any]:
    """`measure` in a process of its own."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        return process.submit(measure, *arguments).result()


def kept(folder: Path = FOLDER) -> dict[str, dict[str, Any]]:
    """All finished rows: device to "model/row" to what was measured."""
    path = folder / "full-size.json"
    return json.loads(path.read_text()) if path.exists() else {}


def keep(device: str, key: str, row: dict[str, Any], folder: Path = FOLDER) -> None:
    """Adds a finished row and writes the table."""
    path = folder / "full-size.json"
    with locked(path):
        rows = kept(folder)
        rows.setdefault(device, {})[key] = row
        write_atomically(path, (json.dumps(rows, indent=1, sort_keys=True) + "\n").encode())
        write_atomically(path.with_suffix(".md"), table(rows).encode())


def main(
    model: str | None = None, row: str | None = None, device: str = "cuda", dtype: str = "bfloat16",
    again: bool = False, smoke: bool = False,
) -> None:  # fmt: skip
    """Measures one row, or all of a model that are not done, and writes the table.

    Args:
        model: which; None measures nothing and prints what is left.
        row: which; None takes all.
        device: "cuda", or "cpu" for those who have the time.
        dtype: of all weights but those of the reward.
        again: measure what is done already.
        smoke: one step of one picture of SD 1.5 at 256x256 on the CPU, vanilla if no other row is given.

    Raises:
        ValueError: if the model has no such row, or there is no such device.
    """
    if smoke:
        name = row or "vanilla"
        found = in_a_process("sd15", name, "cpu", dtype, 1, 1, 256)
        keep("smoke", f"sd15/{name}", found)
        print(found)
        return
    if model and row and (model, row) in WHOLE:
        raise ValueError(f"{model} has no row {row!r}: {WHOLE[model, row]}")
    if row and (model is None or row not in ROWS[model]):
        raise ValueError(f"give one of the models {sorted(ROWS)} and one of its rows, got {model!r} and {row!r}")
    cuda = device.startswith("cuda")
    if cuda and model and not torch.cuda.is_available():
        raise ValueError(f"device={device}: there is no GPU here; --smoke runs a step on the CPU")
    where = torch.cuda.get_device_name(device) if cuda and model else "CPU"
    for one in [row] if row else ROWS.get(model or "", []):
        if (model, one) in WHOLE or (f"{model}/{one}" in kept().get(where, {}) and not again):
            continue
        found = in_a_process(model, one, device, dtype)
        keep(where, f"{model}/{one}", found)
        print(f"{model}/{one}: {found}", flush=True)
    rows = kept()
    write_atomically(FOLDER / "full-size.md", table(rows).encode())
    print("\n".join(undone(rows)) or "all rows are done")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=MODELS)
    parser.add_argument("--row", choices=LABELS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--smoke", action="store_true")
    main(**vars(parser.parse_args()))
