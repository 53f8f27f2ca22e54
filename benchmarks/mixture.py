"""Over-optimisation: every sampler of continuous data where the rewarded law is known. `python -m benchmarks.mixture`.

The model is a mixture of five modes (radius 3, standard deviation 0.4) with its exact denoiser, and the target is
p(x) exp(lambda r(x)) with lambda = 0.2, which is a mixture in closed form. The quadratic reward is -|x - c|^2 for the
mean c of one mode; the linear one is 2 <c, x>, its part that tells modes of one radius apart. All samplers take the
same 40 ancestral steps. Writes mixture.md beside this file.
"""

import json
import logging
import time
from collections.abc import Iterable
from pathlib import Path

import lightning as L
import torch
from jsonargparse import auto_cli
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.mixture_law import LAMBDA, LINEAR, QUADRATIC, SPREAD, STEPS, expected, log_density, rewarded
from benchmarks.mixture_table import Row, places, table
from lidar_lightning import Lookahead, Reward
from lidar_lightning.modules.value import ValueModule, rollouts
from lidar_lightning.samplers import (
    DAS,
    DPS,
    RBF,
    SMC,
    SVDD,
    BackwardRollout,
    BestOfN,
    LiDAR,
    LiDARSMC,
    Sampler,
    Task,
    UniversalGuidance,
)
from lidar_lightning.utils.files import write_atomically
from tests.exact import FIVE, ExactMixture, Linear, Quadratic, large, total_variation

HEADER = """# Samplers where the rewarded law is known

Five modes (radius 3, sd 0.4), target p(x) exp({temperature} r(x)), {steps} ancestral steps. Mean ± half of a 95%
confidence interval over {seeds} seeds of {count} samples; each seed has a bank, or a value network, of its own. "TV" is
the total variation over the modes from the exact law, of one seed and of all seeds together; "error" is the mean
distance of a seed's E[r] from the exact one. "Shared" are network calls for all samples of a prompt together:
lookaheads, or rollouts to learn a value from. DATE moves the embedding of a prompt and D-CBG edits tokens: neither is
defined here. Of a linear reward there is no best, and so no residual for DPS. Rows that keep the best, RBF unless it is
drawn, and DPS aim at a high reward rather than at the law: they show how far beyond it they go.

Damping assumes data N(m, spread^2 I), for which the variance of x0 given x_t is spread^2 sigma^2 / (spread^2 alpha^2 +
sigma^2). The spread of the tables is the standard deviation of all the data, sqrt(3^2 / 2 + 0.4^2) = {spread:.2f}; the
curvature is the reward's own, 2. That of a linear reward is 0: damping changes nothing there.
"""


class TrainedSVDD(SVDD):
    """SVDD-MC, whose value network is fitted on 500 plain samples of the task first."""

    def draw(self, task: Task, count: int) -> Tensor:
        torch.manual_seed(task.seed)
        self.value = ValueModule((2,), lr=3e-3)
        trainer = L.Trainer(
            max_epochs=10, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
            enable_model_summary=False,
        )  # fmt: skip
        trainer.fit(self.value, DataLoader(rollouts(task, 500), batch_size=1000, shuffle=True))
        return super().draw(task, count)


def methods(reward: Linear | Quadratic) -> dict[str, Sampler]:
    """The rows of a table."""
    target = rewarded(reward)

    def value(x_t: Tensor, t: Tensor) -> Tensor:
        """log E[exp(lambda r(x0)) | x_t], up to a constant."""
        return log_density(target, x_t, t) - log_density(FIVE, x_t, t)

    rows: dict[str, Sampler] = {
        "vanilla": BestOfN(1),
        "best of 4": BestOfN(4),
        "best of 16": BestOfN(16),
        "best of 16 of each sample's own": BestOfN(16, pooled=False),
        "16 plain samples each, resampled": BestOfN(16, "draw"),
        "SMC, diff, 8 particles": SMC(8),
        "SMC, diff, 32 particles": SMC(32),
        "SMC, diff, best of 32 particles": SMC(32, keep="best", pooled=False),
        "SMC, max, 32 particles": SMC(32, potential="max"),
        "SMC, add, 32 particles": SMC(32, potential="add"),
        "SMC, rt, 32 particles": SMC(32, potential="rt"),
        "SVDD-PM, 20 children": SVDD(20),
        "SVDD-PM, best of 20 children": SVDD(20, "best", pooled=False),
        "SVDD-MC, 20 children, learned value": TrainedSVDD(20),
        "SVDD-MC, 20 children, exact value": SVDD(20, value=value),
        "RBF, 250 calls": RBF(),
        "RBF, 250 calls, drawn": RBF(keep="draw"),
        "backward rollout, 8 particles, 2 continuations": BackwardRollout(8, rollouts=2, every=4),
        "DAS, 4 particles": DAS(4),
        "DAS, 16 particles": DAS(16),
        "DAS, 64 particles": DAS(64),
        "DAS without derivatives, 64 particles": DAS(64, derivative_free=True),
        "UG": UniversalGuidance(),
        "UG, recurrence 4": UniversalGuidance(recurrence=4),
        "DPS, steps of one length": DPS(norm="gradient"),
    }
    if reward is QUADRATIC:
        rows |= {"DPS": DPS(), **damped(SPREAD)}
    return rows | {
        "LiDAR, n=50": LiDAR(Lookahead(STEPS, 50)),
        "LiDAR, n=50, best of 4": LiDAR(Lookahead(STEPS, 50), candidates=4),
        "LiDAR, n=400": LiDAR(Lookahead(STEPS, 400)),
        "LiDAR, n=400, lookaheads of 10 steps": LiDAR(Lookahead(10, 400)),
        "LiDAR, n=50, 4 moves from 0.5": LiDAR(Lookahead(STEPS, 50), restart=0.5, moves=4),
        "LiDAR, n=50, s=12.5, one-hot, stop 0.2 (published)": LiDAR(
            Lookahead(STEPS, 50), scale=12.5, ess=0.0201, stop=0.2
        ),
        "LiDAR+SMC, n=50, 8 particles": LiDARSMC(Lookahead(STEPS, 50), 8),
        "LiDAR+SMC, n=50, 32 particles": LiDARSMC(Lookahead(STEPS, 50), 32),
    }


def damped(*spreads: float) -> dict[str, Sampler]:
    """UG and DPS that assume these spreads."""
    makes = {"UG": UniversalGuidance, "DPS": DPS}
    return {
        f"{name} damped, spread {s:.2f}": make(damped=True, spread=s) for name, make in makes.items() for s in spreads
    }


def summed_up(drawn: Iterable[Tensor], reward: Reward, exact: Tensor) -> Row:
    """The numbers of samples of several seeds, against the exact frequencies of the modes."""
    samples = list(drawn)
    frequencies = torch.stack([FIVE.frequencies(x) for x in samples])
    distances = [total_variation(row, exact) for row in frequencies]
    rewards = [reward(x, []).mean().item() for x in samples]
    return Row(rewards, distances, total_variation(frequencies.mean(0), exact))


def measure(
    sampler: Sampler,
    reward: Linear | Quadratic,
    seeds: int,
    count: int,
    model: ExactMixture = FIVE,
    steps: int = STEPS,
) -> Row:
    """Draws with a sampler."""
    tasks = [large(model, reward, LAMBDA, steps, seed) for seed in range(seeds)]
    row = summed_up([sampler(given, count) for given in tasks], reward, rewarded(reward).weights)
    one = large(model, reward, LAMBDA, steps)
    sampler(one, 1)
    calls = (tasks[0].meter.network - one.meter.network) / (count - 1)
    return row._replace(calls=calls, shared=one.meter.network - calls, backward=tasks[0].meter.backward / count)


def weighted_model(reward: Linear | Quadratic, draws: int = 200_000) -> Row:
    """What the solver's own samples become with weights exp(lambda r): where particles converge to."""
    x = BestOfN(1)(large(FIVE, reward, LAMBDA, STEPS, seed=-1), draws)
    weights = (LAMBDA * reward(x, [])).softmax(0)
    distance = total_variation(FIVE.frequencies(x, weights), rewarded(reward).weights)
    return Row([(weights @ reward(x, [])).item()], [distance], distance, STEPS)


def bounds(reward: Linear | Quadratic, seeds: int, count: int) -> dict[str, Row]:
    """What no sampler is: the law itself, draws of it, and the limits of many particles and of a large bank."""
    target = rewarded(reward)
    exact = Row([expected(reward)], [0.0], 0.0)
    draws = (target.draw(count, seed) for seed in range(seeds))
    return {
        "**exact law**": exact,
        "draws of it": summed_up(draws, reward, target.weights),
        "the solver's samples, weighted (many particles)": weighted_model(reward),
        "exact guidance (a large bank)": measure(BestOfN(1), reward, seeds, count, target),
        "exact guidance, 400 steps": measure(BestOfN(1), reward, seeds, count, target, 400),
    }


def main(seeds: int = 10, count: int = 1000, out: str = "outputs/benchmarks/mixture") -> None:
    """Draws with all samplers, prints each row as it is done, and writes the tables.

    Args:
        seeds: of each row, at least 2.
        count: samples per seed, at least 2.
        out: folder of the finished rows: a killed benchmark goes on where it stopped.
    """
    torch.set_num_threads(1)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    file = Path(out) / f"{seeds}x{count}.json"
    done = json.loads(file.read_text()) if file.exists() else {}

    def measured(title: str, samplers: dict[str, Sampler], reward: Linear | Quadratic) -> dict[str, Row]:
        rows = {}
        for name, sampler in samplers.items():
            key = f"{title}: {name}"
            if key not in done:
                begin = time.process_time()
                done[key] = measure(sampler, reward, seeds, count)
                write_atomically(file, json.dumps(done).encode())
                print(f"{time.process_time() - begin:5.1f} s  {key}", flush=True)
            rows[name] = Row(*done[key])
            print(table({name: rows[name]}, expected(reward))[-1], flush=True)
        return rows

    text = [HEADER.format(spread=SPREAD, temperature=LAMBDA, steps=STEPS, seeds=seeds, count=count)]
    for title, reward in {"Quadratic reward -|x - c|^2": QUADRATIC, "Linear reward 2 <c, x>": LINEAR}.items():
        exact, rows, limits = expected(reward), measured(title, methods(reward), reward), bounds(reward, seeds, count)
        text += [f"\n## {title}\n", *table(limits | rows, exact), "", *places(rows, limits["draws of it"], exact)]
    title = "Spread that damping assumes (quadratic reward)"
    rows = measured(title, damped(FIVE.std, 1.0, 1.5, SPREAD, 3.0), QUADRATIC)
    text += [f"\n## {title}\n", *table(rows, expected(QUADRATIC))]
    Path(__file__).with_suffix(".md").write_text("\n".join(text) + "\n")


if __name__ == "__main__":
    auto_cli(main)
