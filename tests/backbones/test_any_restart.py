"""Restarts and random steps of whole pipelines: they do what the pipeline, or the model's own backbone, does."""

import pytest
import torch

from lidar_lightning import LiDARModule, Lookahead, backbones
from lidar_lightning.rewards import CallableReward, score
from lidar_lightning.samplers import Task
from lidar_lightning.sampling import sample
from lidar_lightning.solvers import GaussianAncestral
from lidar_lightning.utils.seeding import Generators
from tests.any_pipelines import NAMES, make

STEPS, PLACE = 4, 2
FIRST_ORDER = {"Sana": {"solver_order": 1}, "PixArtSigma": {"solver_order": 1}}
"""Of multistep schedulers, so that what comes after a state of a run follows from that state alone."""
BRIGHT = CallableReward(lambda samples, prompts: samples.mean((1, 2, 3)) * 1e2, name="brightness", modality="image")


def seen_by(backbone, **begin):
    """Where two samples of a run are at each step, the times of these, and where they end."""
    places, times = [], []

    def note(x_t, t):
        places.append(x_t.clone())
        times.append(t)

    x0 = backbone.run(backbone.solver(STEPS), Generators([1, 2]), ["a cat"], note, **begin)
    return places, times, x0


@pytest.mark.parametrize("name", NAMES)
def test_a_restart_from_a_state_of_a_run_goes_on_as_the_run(name):
    backbone = make(name, scheduler_options=FIRST_ORDER.get(name))
    places, times, whole = seen_by(backbone)
    torch.testing.assert_close(times, backbone.times(STEPS).tolist()[:-1], rtol=1e-5, atol=1e-6)
    alpha, sigma = (c.item() for c in backbone.schedule(backbone.times(STEPS)[PLACE]))
    x0 = (places[PLACE] - sigma * places[0]) / alpha
    again, left, end = seen_by(backbone, x0=x0, place=PLACE)
    assert left == times[PLACE:] and len(again) == STEPS - PLACE
    torch.testing.assert_close(torch.stack(again), torch.stack(places[PLACE:]), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(end, whole, rtol=1e-4, atol=1e-4)
    assert torch.equal(seen_by(backbone)[2], whole)


OWN = ["StableDiffusion", "StableDiffusionXL", "StableDiffusion3", "Flux"]


def both(name, **settings):
    whole = make(name, **settings)
    return whole, getattr(backbones, name)(whole.pipe, guidance_scale=3.0, height=32, width=32, **settings)


SCHEDULERS = [None, "DPMSolverMultistepScheduler", "EulerDiscreteScheduler", "LCMScheduler"]


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_restart_is_that_of_the_models_own_backbone(name, scheduler):
    if name in ("StableDiffusion3", "Flux") and scheduler in SCHEDULERS[2:]:
        scheduler = "FlowMatchLCMScheduler"
    whole, own = both(name, scheduler=scheduler)
    x0, ends = own.prior(Generators([5, 6])), []
    for one in (whole, own):
        task = Task(one, one.solver(STEPS), BRIGHT, "a cat")
        ends.append(task.solve_from(x0, 0.6, task.generators(2)))
        assert task.meter.network == 2 * int((task.solver.times[:-1] <= 0.6).sum()) > 0
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", OWN)
def test_random_steps_are_draws_of_the_known_law(name):
    whole, own = both(name)
    solver = whole.random_solver(STEPS)
    law = GaussianAncestral(own.schedule, STEPS, times=solver.times)
    if name in ("StableDiffusion3", "Flux"):
        torch.testing.assert_close(law.times, own.random_solver(STEPS).times, rtol=0, atol=1e-6)
    ends = [
        sample(one, how, Generators([1, 2]), one.encode(["a cat"] * 2)).samples
        for one, how in ((whole, solver), (own, law))
    ]
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_restarts_in_rounds_and_moves_climb(name):
    backbone = make(name)
    start, scores = backbone.times(STEPS)[PLACE].item() + 1e-6, []
    for moves in (1, 3):
        module = LiDARModule(
            backbone, BRIGHT, Lookahead(2, 4), STEPS, restart=start, candidates=2, rounds=2, moves=moves, scale=0.0,
            temperature=1e6,
        )  # fmt: skip
        part = module.predict_step({"prompts": ["a cat"], "indices": [0, 1]}, 0)
        assert part.nfe == (2 + moves) * (STEPS - PLACE)
        scores.append(part.scores["brightness"])
    assert (scores[1] >= scores[0]).all()
    torch.testing.assert_close(scores[1], score(BRIGHT, part.decoded, ["a cat"] * 2), rtol=1e-4, atol=1e-3)


def test_what_cannot_restart_is_named():
    backbone = make("StableDiffusion", scheduler="PNDMScheduler", scheduler_options={"skip_prk_steps": True})
    start = {"x0": torch.zeros(1, 4, 16, 16), "place": 1}
    with pytest.raises(ValueError, match="a PNDMScheduler starts at pure noise only"):
        backbone.run(backbone.solver(3), Generators([0]), ["a cat"], **start)
    backbone = make("StableDiffusion")
    with pytest.raises(ValueError, match=r"noise \(1, 4, 16, 16\), but its clean samples are \(1, 4, 8, 8\)"):
        backbone.run(backbone.solver(3), Generators([0]), ["a cat"], x0=torch.zeros(1, 4, 8, 8), place=1)
    assert "prepare_latents" not in vars(backbone.pipe) and "step" not in vars(backbone.scheduler)
