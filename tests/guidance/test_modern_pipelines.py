"""`guide` in stock pipelines without a backbone of their own, against the closed form in float64 at each step."""

import pytest
import torch

from lidar_lightning import LookaheadBank, guide
from lidar_lightning.guidance.pipelines import own_space
from lidar_lightning.lookahead.bank import Provenance
from tests import reference
from tests.modern_pipelines import BUILDERS, CALLS, SIZE, build

STEPS, N, SCALE, TEMPERATURE, STOP = 5, 6, 0.7, 2.0, 0.3


def run(name, pipe, count, steps=STEPS, seed=1):
    """The stock call."""
    return pipe(
        prompt=["a cat"] * count, num_inference_steps=steps, output_type="latent",
        generator=[torch.Generator().manual_seed(seed + number) for number in range(count)], **SIZE, **CALLS[name],
    )[0]  # fmt: skip


class Recorder:
    """What is told to a scheduler, and what it answers, from now on."""

    def __init__(self, scheduler):
        self.told, self.answers, self.plain, self.scheduler = [], [], scheduler.step, scheduler
        scheduler.step = self

    def __call__(self, output, timestep, sample, *args, **options):
        place = self.scheduler.step_index
        self.told.append((output.clone(), sample.clone(), 0 if place is None else place))
        answer = self.plain(output, timestep, sample, *args, **options)
        self.answers.append(answer[0].clone())
        return answer


def coefficients(scheduler, place):
    """alpha, sigma and the slope of the prediction in x0, as the papers define the noise: flow matching, or eps."""
    sigma = float(scheduler.sigmas[place])
    if "FlowMatch" in type(scheduler).__name__ or scheduler.config.get("use_flow_sigmas"):
        return 1 - sigma, sigma, -1 / sigma
    alpha = (1 + sigma**2) ** -0.5
    return alpha, sigma * alpha, -1 / sigma


def bank_of(name, pipe):
    """The clean samples of a short stock run, as its scheduler gave them, drawn together: all steps see several."""
    recorder = Recorder(pipe.scheduler)
    run(name, pipe, N, 2, seed=100)
    del pipe.scheduler.step
    samples = recorder.answers[-1].float()
    samples = samples.mean(0) + 1e-3 * (samples - samples.mean(0)) / samples.std(0).mean()
    space = f"{own_space(pipe)}-{'x'.join(map(str, samples.shape[1:]))}"
    rewards = torch.randn(N, generator=torch.Generator().manual_seed(0))
    provenance = Provenance("a cat", name, "0", space, "stock", 2, N, 0)
    return LookaheadBank(samples, {"r": rewards}, provenance, higher_is_better={"r": True})


@pytest.mark.parametrize("name", BUILDERS)
def test_each_prediction_moves_by_the_closed_form(name):
    pipe = build(name)
    bank = bank_of(name, pipe)
    plain = run(name, pipe, 2)
    after = Recorder(pipe.scheduler)
    with guide(pipe, bank, scale=SCALE, temperature=TEMPERATURE, stop=STOP) as guidance:
        before = Recorder(pipe.scheduler)
        guided = run(name, pipe, 2)
        pipe.scheduler.step = before.plain
    del pipe.scheduler.step
    steps = len(guidance.take_diagnostics())
    assert len(before.told) == STEPS >= steps >= 2
    for (output, x, place), (given, _, _) in zip(before.told[:steps], after.told, strict=False):
        alpha, sigma, slope = coefficients(pipe.scheduler, place)
        shift = reference.gaussian_shift(
            x.double().flatten(1).numpy(), alpha, sigma, bank.samples.double().flatten(1).numpy(),
            bank.rewards["r"].double().numpy(), TEMPERATURE,
        ).reshape(x.shape)  # fmt: skip
        expected = SCALE * slope * torch.from_numpy(shift)
        got = given.double() - output.double()
        assert expected.norm() > 1e-4
        assert (got - expected).norm() < 2e-2 * expected.norm()
    assert all(torch.equal(a[0], b[0]) for a, b in zip(before.told[steps:], after.told[steps:], strict=True))
    assert guided.isfinite().all() and not torch.equal(guided, plain)
    assert torch.equal(run(name, pipe, 2), plain)
