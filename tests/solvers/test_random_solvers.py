"""Solvers whose steps are random: their laws against closed forms and diffusers, with exact denoisers."""

import diffusers
import pytest
import torch

from lidar_lightning.samplers import RBF, Task
from lidar_lightning.sampling import sample
from lidar_lightning.schedules import VPSDE, FlowMatching, LogLinear, VariancePreserving
from lidar_lightning.solvers import FlowSDE, GaussianAncestral, times_of_schedule
from lidar_lightning.utils.seeding import Generators
from tests.exact import DIFFUSION, FIVE, FIVE_FLOW, ExactMixture, Linear, task, total_variation

FLOW = FlowMatching()
NORMAL = ExactMixture([[1.5]], 0.5, [1.0], FLOW)
"""One normal, under which every step is affine in x_t."""


def predicted(model, x, t):
    return model.predict(x, torch.full((len(x),), t, dtype=torch.float64), None)


def error_of_marginals(solver):
    """Largest error of mean and variance at any time but the last: laws of affine steps are followed exactly."""
    mean, variance, errors = 0.0, 1.0, []
    for t, s in list(zip(solver.times.tolist(), solver.times.tolist()[1:], strict=False))[:-1]:
        x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
        law = solver.transition(predicted(NORMAL, x, t), x, t, s)
        low, high = law.mean.flatten().tolist()
        mean, variance = low + (high - low) * mean, (high - low) ** 2 * variance + law.std**2
        errors.append((abs(mean - (1 - s) * 1.5), abs(variance - ((1 - s) ** 2 * 0.25 + s**2))))
    return torch.tensor(errors).max().item()


@pytest.mark.parametrize(
    ("solver", "settings"),
    [
        (FlowSDE, {"spacing": "equal"}),
        (FlowSDE, {"spacing": "equal", "scale": 1.0, "power": 0.5}),
        (FlowSDE, {"spacing": "equal", "scale": 0.0}),
        (GaussianAncestral, {}),
        (GaussianAncestral, {"eta": 0.5}),
    ],
)
def test_marginals_are_those_of_the_flow(solver, settings):
    """The error falls like the length of the steps."""
    coarse, fine = (error_of_marginals(solver(FLOW, steps, **settings)) for steps in (50, 400))
    assert fine < coarse / 6 and fine < 0.01


def test_published_times_give_these_marginals_too():
    """Near the data their steps are as long as sqrt(2 / steps), and so is the error."""
    coarse, fine = (error_of_marginals(FlowSDE(FLOW, steps)) for steps in (50, 800))
    assert fine < coarse / 4 and fine < 0.01


def test_the_stochastic_flow_reaches_the_mixture():
    x = sample(FIVE_FLOW, FlowSDE(FLOW, 60, spacing="equal"), Generators(list(range(1500))), None).samples
    assert total_variation(FIVE_FLOW.frequencies(x), FIVE_FLOW.weights) < 0.05
    gap = (x[:, None] - FIVE_FLOW.means).square().sum(-1).amin(1).mean().item() / 2
    assert gap == pytest.approx(0.16, rel=0.1)


def test_without_noise_it_is_the_step_of_euler():
    generator = torch.Generator().manual_seed(0)
    x, x0_hat = torch.randn(2, 3, 2, generator=generator, dtype=torch.float64).unbind()
    for t, s in ((1.0, 0.9), (0.5, 0.3), (0.2, 0.0)):
        euler = x + (s - t) * (x - x0_hat) / t
        law = FlowSDE(FLOW, 5, scale=0.0).transition(x0_hat, x, t, s)
        torch.testing.assert_close(law.mean, euler)
        assert law.std == 0
        errors = [(FlowSDE(FLOW, 5, g).transition(x0_hat, x, t, s).mean - euler).abs().max() for g in (0.1, 0.01)]
        assert errors[1] <= errors[0] / 90 + 1e-12
    assert FlowSDE(FLOW, 5).transition(x0_hat, x, 0.5, 0.4).std == pytest.approx(3 * 0.25 * 0.1**0.5)


def test_the_last_step_adds_no_noise():
    x, x0_hat = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64).unbind()
    for solver in (FlowSDE(FLOW, 5), GaussianAncestral(FLOW, 5)):
        law = solver.transition(x0_hat, x, 0.2, 0.0)
        torch.testing.assert_close(law.mean, x0_hat)
        assert law.std == 0


def test_times_of_the_stochastic_flow():
    q = torch.linspace(1, 0, 11, dtype=torch.float64)
    torch.testing.assert_close(FlowSDE(FLOW, 10).times, (1 - (1 - q) ** 2).sqrt())
    torch.testing.assert_close(FlowSDE(FLOW, 10, spacing="equal").times, q)
    assert len({FlowSDE(FLOW, 10, *settings).name for settings in ((), (1.0,), (3.0, 1.0), (3.0, 2.0, "equal"))}) == 4


@pytest.mark.parametrize("schedule", [DIFFUSION, LogLinear()])
def test_the_stochastic_flow_is_of_flows(schedule):
    with pytest.raises(ValueError, match=f"got {type(schedule).__name__}: use GaussianAncestral"):
        FlowSDE(schedule)


@pytest.mark.parametrize("settings", [{"steps": 0}, {"scale": -1.0}, {"power": -1.0}, {"spacing": "cosine"}])
def test_bad_settings_are_named(settings):
    with pytest.raises(ValueError, match=f"got .*{next(iter(settings.values()))}"):
        FlowSDE(FLOW, **settings)


@pytest.mark.parametrize("eta", [0.0, 0.7, 1.0])
def test_gaussian_steps_are_those_of_ddim(eta):
    """To the first entry of the table at the end, which diffusers does with set_alpha_to_one=False."""
    ddim = diffusers.DDIMScheduler(
        beta_start=1e-4, beta_end=0.02, clip_sample=False, set_alpha_to_one=False, timestep_spacing="leading"
    )
    ddim.set_timesteps(20)
    schedule = VariancePreserving(ddim.alphas_cumprod)
    generator = torch.Generator().manual_seed(1)
    x, x0_hat = torch.randn(2, 3, 4, generator=generator, dtype=torch.float64).unbind()
    times = [*(ddim.timesteps / 1000).tolist(), 0.0]
    for step, (t, s) in enumerate(zip(times, times[1:], strict=False)):
        # The last timestep of diffusers is 0 itself; the step from it is to the same entry of the table.
        law = GaussianAncestral(schedule, 20, eta).transition(x0_hat, x, t, s)
        alpha, sigma = schedule(torch.tensor(t, dtype=torch.float64))
        eps = (x - alpha * x0_hat) / sigma
        means = [
            ddim.step(eps, ddim.timesteps[step], x, eta=eta, variance_noise=torch.full_like(x, z)).prev_sample
            for z in (0.0, 1.0)
        ]
        torch.testing.assert_close(law.mean, means[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(torch.full_like(x, law.std), means[1] - means[0], rtol=1e-3, atol=1e-4)


def test_rbf_converts_the_path_of_a_flow():
    """Its steps have the ratios alpha / sigma of the variance preserving diffusion at equal times."""
    given = task(FIVE_FLOW, Linear([1.0, 0.0]), steps=12)
    times, seen, predict = RBF(40, 4).adapted(given).solver.times, set(), FIVE_FLOW.predict
    r = torch.linspace(1, 0, 13, dtype=torch.float64)[1:-1]
    total = 0.1 * r + (20 - 0.1) * r**2 / 2
    ratio = (-total / 2).exp() / (1 - (-total).exp()).sqrt()
    torch.testing.assert_close((1 - times[1:-1]) / times[1:-1], ratio)
    FIVE_FLOW.predict = lambda x, t, condition: seen.add(t[0].item()) or predict(x, t, condition)
    try:
        RBF(40, 4)(given, 2)
    finally:
        del FIVE_FLOW.predict
    assert sorted(seen, reverse=True) == pytest.approx(times[:-1].tolist())
    # Not of a diffusion model, of another solver than the model's own, or where it is not wanted.
    own = FlowSDE(FLOW, 12)
    for same in (task(FIVE, Linear([1.0, 0.0]), steps=12), Task(FIVE_FLOW, own, Linear([1.0, 0.0]))):
        assert RBF().adapted(same).solver is same.solver
    assert RBF(convert=False).adapted(given).solver is given.solver


def test_the_linear_diffusion_is_that_of_its_table():
    """VariancePreserving of 1,000 betas from 0.1 / 1000 to 20 / 1000 is its discrete form."""
    t = torch.tensor([0.1, 0.3, 0.6, 0.9], dtype=torch.float64)
    (alpha, sigma), (table_alpha, table_sigma) = VPSDE()(t), DIFFUSION(t)
    torch.testing.assert_close(alpha, table_alpha, rtol=0.02, atol=1e-3)
    torch.testing.assert_close(sigma, table_sigma, rtol=0.02, atol=1e-3)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t))


def test_names_tell_solvers_apart():
    """Also those of two grids with the same sum."""
    grids = [torch.tensor([1.0, a, 1 - a, 0.0]) for a in (0.6, 0.7)]
    solvers = [GaussianAncestral(FLOW, 3, times=times) for times in (None, *grids)] + [GaussianAncestral(FLOW, 3, 0.5)]
    assert len({solver.name for solver in solvers}) == 4
    assert GaussianAncestral(FLOW, 3, times=grids[0].clone()).name == solvers[1].name


def test_converted_times_give_the_steps_of_the_path():
    """A flow along them and a diffusion along equal times keep the same x / alpha, given the same data."""
    steps = 20
    times = times_of_schedule(FLOW, DIFFUSION, steps)
    assert times[0] == 1 and times[-1] == 0
    flow = GaussianAncestral(FLOW, steps, eta=0.0, times=times)
    diffusion = GaussianAncestral(DIFFUSION, steps, eta=0.0)
    (flow_alpha, flow_sigma), (alpha, sigma) = FLOW(times), DIFFUSION(diffusion.times)
    torch.testing.assert_close((flow_alpha / flow_sigma)[1:-1], (alpha / sigma)[1:-1])
    y = torch.randn(50, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    x = y * (flow_alpha / alpha)[1]
    for i in range(1, steps):
        (t, s), (u, v) = times[i : i + 2].tolist(), diffusion.times[i : i + 2].tolist()
        x = flow.transition(predicted(FIVE_FLOW, x, t), x, t, s).mean
        y = diffusion.transition(predicted(FIVE, y, u), y, u, v).mean
        if i < steps - 1:
            torch.testing.assert_close(x / flow_alpha[i + 1], y / alpha[i + 1], rtol=1e-6, atol=1e-6)
    # The table ends at a little noise, the flow at none.
    torch.testing.assert_close(x, y, rtol=0, atol=5 * sigma[-1].item())
