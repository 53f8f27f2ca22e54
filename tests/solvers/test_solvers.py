"""Solvers: one step against the published formula, in float64."""

import math

import diffusers
import numpy as np
import pytest
import torch

from lidar_lightning.schedules import LogLinear, VariancePreserving
from lidar_lightning.solvers import Ancestral, SchedulerSolver
from lidar_lightning.solvers.scheduler import SUPPORTED
from lidar_lightning.utils.seeding import Generators
from tests import reference


def alphas_cumprod():
    """The linear schedule of DDPM, 1e-4 to 0.02 in 1000 timesteps."""
    return np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))


@pytest.mark.parametrize(("t", "s"), [(1.0, 0.9), (0.6, 0.5), (0.3, 0.01), (0.02, 1e-5)])
def test_ancestral_posterior_is_the_published_one(t, s):
    g = torch.Generator().manual_seed(0)
    x_t, x0_hat = torch.randint(6, (3, 4), generator=g), torch.randn(3, 4, 6, generator=g).double().softmax(-1)
    schedule = LogLinear()
    alpha_t, alpha_s = 1 - (1 - 1e-3) * t, 1 - (1 - 1e-3) * s
    expected = reference.udlm_posterior(x0_hat.numpy(), x_t.numpy(), alpha_t, alpha_s)
    np.testing.assert_allclose(Ancestral(schedule).posterior(x0_hat, x_t, t, s), expected, atol=1e-12)


def test_ancestral_draws_from_its_posterior():
    g = torch.Generator().manual_seed(1)
    x_t, x0_hat = torch.tensor([[0, 3]]), torch.randn(1, 2, 4, generator=g).softmax(-1)
    solver, rows = Ancestral(LogLinear()), 4000
    drawn = solver.step(x0_hat.expand(rows, -1, -1), x_t.expand(rows, -1), 0.7, 0.2, Generators(list(range(rows))))
    posterior = solver.posterior(x0_hat, x_t, 0.7, 0.2)[0].numpy()
    for position in range(2):
        counts = np.bincount(drawn[:, position], minlength=4)
        chi_squared = ((counts - rows * posterior[position]) ** 2 / (rows * posterior[position])).sum()
        assert chi_squared < 16.3  # 0.999 quantile at 3 degrees of freedom


def test_the_least_likely_token_is_redrawn_from_its_marginal_and_no_other():
    g = torch.Generator().manual_seed(2)
    x_t, x0_hat = torch.randint(6, (5, 4), generator=g), torch.randn(5, 4, 6, generator=g).softmax(-1)
    solver, t, s = Ancestral(LogLinear(), redraw=0.2), 0.1, 0.05
    law, plain = solver.transition(x0_hat, x_t, t, s).probabilities, solver.posterior(x0_hat, x_t, t, s)
    alpha_s = 1 - (1 - 1e-3) * s
    for row in range(5):
        likelihoods = [x0_hat[row, position, x_t[row, position]].item() for position in range(4)]
        for position in range(4):
            least = position == likelihoods.index(min(likelihoods))
            expected = alpha_s * x0_hat[row, position].double() + (1 - alpha_s) / 6 if least else plain[row, position]
            torch.testing.assert_close(law[row, position], expected)
    early = solver.transition(x0_hat, x_t, 0.2, 0.1).probabilities
    torch.testing.assert_close(early, Ancestral(LogLinear()).transition(x0_hat, x_t, 0.2, 0.1).probabilities)


@pytest.mark.parametrize(("redraw", "least", "most"), [(0.0, 0.0, 0.5), (1.0, 0.99, 1.0)])
def test_redrawing_puts_a_wrong_token_right(redraw, least, most):
    """With the exact model of two words: near t = 0 a published step all but keeps a token that cannot be."""
    words, t, s, rows = np.array([[0, 1, 2, 3], [3, 2, 1, 0]]), 1e-3, 9e-4, 200
    solver, generators = Ancestral(LogLinear(), redraw=redraw), Generators(list(range(rows)))
    x = torch.tensor([[0, 1, 3, 3]]).expand(rows, -1)
    for _ in range(3):
        x0_hat = reference.leave_one_out(x.numpy(), 1 - (1 - 1e-3) * t, words, np.array([0.5, 0.5]), 4)
        x = solver.step(torch.from_numpy(x0_hat), x, t, s, generators)
    assert least <= (x == torch.from_numpy(words[0])).all(1).double().mean() <= most


def test_ancestral_times_and_errors():
    times = Ancestral(LogLinear(), 8).times
    assert len(times) == 9 and times[0] == 1 and times[-1] == pytest.approx(1e-5)
    with pytest.raises(ValueError, match="got 0"):
        Ancestral(LogLinear(), 0)
    with pytest.raises(ValueError, match="redraw is a time from 0, which redraws nothing, to 1, got 1.5"):
        Ancestral(LogLinear(), redraw=1.5)
    names = [Ancestral(LogLinear(), redraw=redraw).name for redraw in (0.0, 0.2)]
    assert names == ["Ancestral(power=2)", "Ancestral(power=2, redraw=0.2)"]


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_is_the_textbook_formula(eta):
    """x_s = sqrt(a_s) x0 + sqrt(1 - a_s - v) eps + sqrt(v) z, v = eta^2 (1 - a_s) / (1 - a_t) (1 - a_t / a_s)."""
    scheduler = diffusers.DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, num_train_timesteps=1000, set_alpha_to_one=False, clip_sample=False
    )
    solver = SchedulerSolver(scheduler, steps=20, eta=eta)
    g = torch.Generator().manual_seed(2)
    x_t, x0_hat = (torch.randn(3, 4, generator=g, dtype=torch.float64) * 3 for _ in range(2))
    noise = torch.cat([torch.randn(1, 4, generator=torch.Generator().manual_seed(i)).double() for i in range(3)])
    kept = alphas_cumprod()
    solver.start(x_t)
    for i in range(19):
        t, s = solver.times[i].item(), solver.times[i + 1].item()
        a_t, a_s = kept[round(t * 1000)], kept[round(s * 1000)]
        eps = (x_t.float() - math.sqrt(a_t) * x0_hat) / math.sqrt(1 - a_t)
        variance = eta**2 * (1 - a_s) / (1 - a_t) * (1 - a_t / a_s)
        expected = math.sqrt(a_s) * x0_hat + math.sqrt(1 - a_s - variance) * eps + math.sqrt(variance) * noise
        got = solver.step(x0_hat.float(), x_t.float(), t, s, Generators([0, 1, 2]))
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4)
    assert scheduler.num_inference_steps is None


def build(name):
    """A scheduler of that class as latent models use it: samples are not clipped to [-1, 1]."""
    made = getattr(diffusers, name)()
    changes = {k: v for k, v in {"clip_sample": False, "skip_prk_steps": True}.items() if k in made.config}
    return type(made).from_config(made.config, **changes)


@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("steps", [4, 7, 50])
def test_perfect_predictions_are_reached(name, steps):
    """A denoiser that knows x0 ends within the noise of the first timestep of it, and a second run is the same."""
    solver = SchedulerSolver(build(name), steps)
    extra = 1 if name == "PNDMScheduler" else 0
    assert len(solver.times) == steps + 1 + extra and solver.times[-1] == 0 and solver.times.diff().max() <= 0
    x0 = torch.tensor([[5.0, -3.0], [0.5, 40.0]])
    runs = []
    for _ in range(2):
        generators = Generators([3, 4])
        x = solver.start(generators.randn(2))
        for t, s in zip(solver.times.tolist(), solver.times.tolist()[1:], strict=False):
            x = solver.step(x0, x, t, s, generators)
        runs.append(x)
    torch.testing.assert_close(runs[0], x0, rtol=2e-3, atol=0.05)
    assert torch.equal(*runs)


def test_each_sample_has_its_own_stream():
    solver = SchedulerSolver(diffusers.DDIMScheduler(), 10, eta=1.0)
    t, s = solver.times[:2].tolist()
    zeros = torch.zeros(3, 2, 2)

    def first(rows, seeds):
        return solver.step(rows, solver.start(rows), t, s, Generators(seeds))

    together, alone = first(zeros, [1, 2, 3]), [first(zeros[:1], [seed]) for seed in (1, 2, 3)]
    assert torch.equal(together, torch.cat(alone)) and len(together.flatten().unique()) == 12


def test_unsupported_schedulers_and_settings_are_named():
    for name in ("KDPM2DiscreteScheduler", "HeunDiscreteScheduler", "FlowMatchHeunDiscreteScheduler"):
        with pytest.raises(ValueError, match=f"cannot solve with a {name}: use one of DDIMScheduler"):
            SchedulerSolver(getattr(diffusers, name)())
    with pytest.raises(ValueError, match="unknown prediction_type 'noise'"):
        SchedulerSolver(diffusers.DDIMScheduler(prediction_type="noise"))
    with pytest.raises(ValueError, match="got 0.5 with DDPMScheduler"):
        SchedulerSolver(diffusers.DDPMScheduler(), eta=0.5)
    with pytest.raises(ValueError, match="got 0"):
        SchedulerSolver(diffusers.DDIMScheduler(), steps=0)
    solver = SchedulerSolver(diffusers.DDIMScheduler(), 10)
    with pytest.raises(ValueError, match="t=0.123 is not the next time"):
        solver.step(torch.zeros(1, 2), torch.zeros(1, 2), 0.123, 0.1, Generators([0]))


def test_variance_preserving_schedule():
    kept = alphas_cumprod()
    schedule = VariancePreserving(torch.from_numpy(kept))
    steps = np.array([0, 1, 500, 999])
    alpha, sigma = schedule(torch.from_numpy(steps / 1000))
    np.testing.assert_allclose(alpha, np.sqrt(kept[steps]), rtol=1e-10)
    np.testing.assert_allclose(alpha.square() + sigma.square(), 1)
    np.testing.assert_allclose(
        schedule(torch.tensor(0.5005, dtype=torch.float64))[0] ** 2, (kept[500] + kept[501]) / 2, rtol=1e-9
    )
    assert schedule(torch.tensor(1.0))[0].item() == pytest.approx(math.sqrt(kept[-1]))
    table = torch.linspace(1, 0, 11)
    assert VariancePreserving(table)(torch.tensor([0.95, 1.0]))[0].isfinite().all()


def test_log_linear_schedule():
    schedule, t = LogLinear(), torch.linspace(0, 1, 11, dtype=torch.float64).requires_grad_()
    alpha, sigma = schedule(t)
    torch.testing.assert_close(alpha + sigma, torch.ones_like(t))
    torch.testing.assert_close(schedule.level(t), -alpha.log())
    (slope,) = torch.autograd.grad(alpha.sum(), t)
    assert (slope == schedule.slope()).all()


def test_names_tell_schedulers_apart():
    linear, scaled = diffusers.DDIMScheduler(), diffusers.DDIMScheduler(beta_schedule="scaled_linear")
    settings = ((linear, 10, 0.0), (linear, 10, 1.0), (scaled, 10, 0.0))
    assert len({SchedulerSolver(*setting).name for setting in settings}) == 3
    assert SchedulerSolver(linear, 10).name == SchedulerSolver(diffusers.DDIMScheduler(), 20).name
