"""Methods that differentiate the reward, against exact answers, closed forms and their own definitions."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from lidar_lightning.backbones.vae import decode
from lidar_lightning.rewards import CallableReward
from lidar_lightning.samplers.best_of_n import BestOfN
from lidar_lightning.samplers.das import DAS
from lidar_lightning.samplers.date import DATE
from lidar_lightning.samplers.dps import DPS
from lidar_lightning.samplers.gradient import damping, reward_slope
from lidar_lightning.samplers.task import Task
from lidar_lightning.samplers.universal import UniversalGuidance
from lidar_lightning.solvers import GaussianAncestral
from tests.exact import (
    DIFFUSION,
    FIVE,
    FIVE_FLOW,
    TABLE,
    TOKENS,
    ExactMixture,
    Linear,
    Quadratic,
    large,
    task,
    tilted,
    total_variation,
)
from tests.pictures import BLUNT, BRIGHTNESS, backbone
from tests.pipelines import build

QUADRATIC, LAMBDA = Quadratic(FIVE.means[0]), 0.2

pytestmark = pytest.mark.usefixtures("one_thread")


def outcome(sampler, count, reward=QUADRATIC, temperature=LAMBDA, model=FIVE, **settings):
    """Mean reward, and total variation over the modes from the rewarded distribution."""
    x = sampler(large(model, reward, temperature, **settings), count)
    return reward(x, []).mean().item(), total_variation(
        model.frequencies(x), tilted(model, reward, temperature, 100_000)[1]
    )


class TestOneStep:
    """A step from t = 0.6 to 0.3, whose every part is written down here for FIVE and the quadratic reward."""

    T, S = 0.6, 0.3

    def task(self):
        solver = GaussianAncestral(DIFFUSION, 1, times=torch.tensor([self.T, self.S]))
        return Task(FIVE, solver, QUADRATIC, "numbers", LAMBDA)

    def reference(self):
        """x_t, alpha, sigma, x0_hat, lambda r and its gradient by the covariance of x0 given x_t."""
        (alpha, _), (sigma, _) = (c.numpy() for c in DIFFUSION(torch.tensor([self.T, self.S], dtype=torch.float64)))
        x, means, var = self.task().generators(6).randn(2).double().numpy(), FIVE.means.numpy(), FIVE.std**2
        total = alpha**2 * var + sigma**2
        chance = np.exp(-((x[:, None] - alpha * means) ** 2).sum(-1) / (2 * total))
        chance /= chance.sum(1, keepdims=True)
        each = means + alpha * var / total * (x[:, None] - alpha * means)
        x0_hat = np.einsum("bk,bkd->bd", chance, each)
        gap = each - x0_hat[:, None]
        covariance = np.einsum("bk,bkd,bke->bde", chance, gap, gap) + var * sigma**2 / total * np.eye(2)
        residual = means[0] - x0_hat
        gradient = alpha / sigma**2 * np.einsum("bde,be->bd", covariance, 2 * LAMBDA * residual)
        return x, alpha, sigma, x0_hat, -LAMBDA * (residual**2).sum(1), gradient

    def stepped(self, x0_hat, x, alpha, sigma):
        alpha_s, sigma_s = (c.item() for c in DIFFUSION(torch.tensor(self.S, dtype=torch.float64)))
        variance = sigma_s**2 / sigma**2 * (sigma**2 - (alpha / alpha_s * sigma_s) ** 2)
        noise = self.task().generators(6)
        noise.randn(2)
        mean = alpha_s * x0_hat + np.sqrt(sigma_s**2 - variance) * (x - alpha * x0_hat) / sigma
        return mean + np.sqrt(variance) * noise.randn(2).double().numpy()

    @pytest.mark.parametrize("damped", [False, True])
    def test_universal_guidance(self, damped):
        x, alpha, sigma, x0_hat, _, gradient = self.reference()
        factor = 1 / (1 + 2 * LAMBDA * 1.5**2 * sigma**2 / (1.5**2 * alpha**2 + sigma**2)) if damped else 1
        expected = self.stepped(x0_hat + 0.7 * factor * sigma**2 / alpha * gradient, x, alpha, sigma)
        drawn = UniversalGuidance(0.7, damped=damped, spread=1.5)(self.task(), 6)
        np.testing.assert_allclose(drawn, expected, rtol=1e-6, atol=1e-7)

    def test_a_step_that_recurs_is_noised_back_by_the_forward_process(self):
        given, streams = self.task(), self.task().generators(6)
        times = torch.tensor([self.T, self.S], dtype=torch.float64)
        (alpha, alpha_s), (sigma, sigma_s) = (c.tolist() for c in DIFFUSION(times))
        x, posterior = streams.randn(2).double(), sigma_s**2 / sigma**2 * (sigma**2 - (alpha / alpha_s * sigma_s) ** 2)
        for take in range(3):
            if take:
                forward = sigma**2 - (alpha / alpha_s) ** 2 * sigma_s**2
                x = alpha / alpha_s * x + forward**0.5 * streams.randn(2).double()
            x0_hat = FIVE.predict(x, torch.full((6,), self.T), None)
            mean = alpha_s * x0_hat + (sigma_s**2 - posterior) ** 0.5 * (x - alpha * x0_hat) / sigma
            x = mean + posterior**0.5 * streams.randn(2).double()
        torch.testing.assert_close(UniversalGuidance(0.0, recurrence=3)(given, 6), x, rtol=1e-6, atol=1e-7)

    @pytest.mark.parametrize("norm", ["gradient", "loss"])
    def test_dps(self, norm):
        x, alpha, sigma, x0_hat, value, gradient = self.reference()
        size = np.linalg.norm(gradient, axis=1) if norm == "gradient" else np.sqrt(-value)
        expected = self.stepped(x0_hat, x, alpha, sigma) + 0.3 * gradient / size[:, None]
        np.testing.assert_allclose(DPS(0.3, norm)(self.task(), 6), expected, rtol=1e-6, atol=1e-7)

    def test_dps_takes_the_published_multiple_of_the_residual_wherever_the_reward_is_zero(self):
        """r + 7, whose best is 7, is the same problem: x_s' = x_s - zeta' grad |y - A x0|^2 / |y - A x0|."""
        x, alpha, sigma, x0_hat, value, gradient = self.reference()
        expected = self.stepped(x0_hat, x, alpha, sigma) + 0.3 * gradient / np.sqrt(-value)[:, None]
        raised = CallableReward(
            lambda samples, prompts: QUADRATIC(samples, prompts) + 7, name="raised", differentiable=True
        )
        given = replace(self.task(), reward=raised)
        np.testing.assert_allclose(DPS(best=7.0)(given, 6), expected, rtol=1e-5, atol=1e-6)
        with pytest.raises(ValueError, match="short of best=0, and 'raised' is better by .*: give the best value"):
            DPS()(given, 6)

    def test_das_proposes_the_shifted_step(self):
        x, alpha, sigma, x0_hat, value, gradient = (torch.as_tensor(part) for part in self.reference())
        given, sampler = self.task(), DAS(gamma=0.3)
        model = given.solver.transition(x0_hat, x, self.T, self.S)
        sampler.predict(given, x, self.T)
        proposal = sampler.propose(given, x, x0_hat, 1, model)
        torch.testing.assert_close(proposal.mean, model.mean + 0.69 * model.std**2 * gradient, rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(sampler.twist(given, x, x0_hat, 2), 0.69 * value, rtol=1e-6, atol=1e-7)


def test_damped_gradient_is_that_of_the_exact_expectation():
    """In one dimension, by quadrature over x0 and finite differences in x_t, for data N(1, 1.3^2)."""
    temperature, centre, mean, spread, alpha, sigma = 0.5, 2.0, 1.0, 1.3, 0.6, 0.8
    total = alpha**2 * spread**2 + sigma**2
    grid = np.linspace(-25, 25, 200_001)

    def estimate(x):
        return mean + alpha * spread**2 / total * (x - alpha * mean)

    def log_expectation(x):
        posterior = np.exp(-((grid - mean) ** 2) / (2 * spread**2) - (x - alpha * grid) ** 2 / (2 * sigma**2))
        return np.log((posterior * np.exp(-temperature * (grid - centre) ** 2)).sum() / posterior.sum())

    for x in (-2.0, 0.3, 4.0):
        exact = (log_expectation(x + 1e-4) - log_expectation(x - 1e-4)) / 2e-4
        plug_in = 2 * temperature * (centre - estimate(x)) * alpha * spread**2 / total
        assert exact == pytest.approx(plug_in * damping(temperature, alpha, sigma, spread), rel=1e-6)
        assert abs(plug_in) > 1.3 * abs(exact)


def test_damping_is_exact_for_a_normal_model():
    model, reward = ExactMixture([[1.0, -0.5]], 1.3, [1.0]), Quadratic([2.0, 1.0])
    precision = 1 / 1.3**2 + 2 * 0.5
    mean = (model.means[0] / 1.3**2 + 2 * 0.5 * reward.centre) / precision
    x = UniversalGuidance(damped=True, spread=1.3)(large(model, reward, 0.5, steps=200), 3000)
    plain = UniversalGuidance()(large(model, reward, 0.5, steps=200), 3000)
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.05)
    # The solver's own variance is 2% short at 200 steps, even without guidance.
    torch.testing.assert_close(x.std(0), torch.full((2,), precision**-0.5, dtype=torch.float64), rtol=0.06, atol=0)
    assert (plain.mean(0) - mean).min() > 0.12 and plain.std(0).max() < 0.9 * precision**-0.5


def test_plug_in_guidance_overshoots_and_damping_mends_it():
    exact, _ = tilted(FIVE, QUADRATIC, LAMBDA)
    assert exact == pytest.approx(-2.18, abs=0.02)
    reward, distance = outcome(UniversalGuidance(), 2000)
    assert reward > -1.0 and distance > 0.09
    # The spread is between that of a mode (0.4) and that of all the data (2.2).
    reward, distance = outcome(UniversalGuidance(damped=True, spread=1.5), 2000)
    assert reward == pytest.approx(exact, abs=0.4) and distance < 0.04


def test_flow_models_are_guided_from_where_they_know_something():
    reward, _ = outcome(UniversalGuidance(damped=True, spread=1.5), 500, model=FIVE_FLOW)
    assert reward == pytest.approx(-2.18, abs=0.8)


def test_recurrence_without_guidance_keeps_the_model():
    still = large(FIVE, QUADRATIC, LAMBDA)
    x = UniversalGuidance(scale=0.0, recurrence=3)(still, 2500)
    plain = BestOfN(1)(large(FIVE, QUADRATIC, LAMBDA), 2500)
    assert still.meter.network == still.meter.backward == 3 * 40 * 2500
    torch.testing.assert_close(x.std(0), plain.std(0), rtol=0.05, atol=0)
    assert total_variation(FIVE.frequencies(x), FIVE.weights) < 0.04


def test_dps_raises_the_reward_and_damping_softens_it():
    plain, strong, soft = (
        outcome(sampler, 300)[0] for sampler in (DPS(0.0), DPS(0.3), DPS(0.3, damped=True, spread=2.2))
    )
    assert plain < soft < strong


@pytest.mark.parametrize("make", [UniversalGuidance, DPS])
def test_guiding_between_start_and_stop_only(make):
    given = task(FIVE, QUADRATIC, LAMBDA, steps=10)
    make(start=0.75, stop=0.25)(given, 3)
    assert given.meter.row(3) | {"network": 10, "backward": 5, "rewards": 5, "decodes": 5} == given.meter.row(3)


def test_guiding_includes_the_start_and_not_the_stop():
    sampler = DPS(start=0.75, stop=0.25)
    assert [sampler.guides(t) for t in (0.76, 0.75, 0.26, 0.25)] == [False, True, True, False]


@pytest.mark.parametrize("sampler", [UniversalGuidance(), DPS(), DAS(2)])
def test_batches_change_nothing(sampler):
    whole, parts = task(FIVE, QUADRATIC, LAMBDA, steps=5), task(FIVE, QUADRATIC, LAMBDA, steps=5)
    parts.batch_size = 3
    torch.testing.assert_close(sampler(whole, 4), sampler(parts, 4))
    assert whole.meter.backward == parts.meter.backward


class TestDAS:
    def test_converges_to_the_rewarded_distribution(self):
        exact, _ = tilted(FIVE, QUADRATIC, LAMBDA)
        outcomes = [outcome(DAS(particles), 800) for particles in (1, 4, 16)]
        errors, distances = [abs(reward - exact) for reward, _ in outcomes], [distance for _, distance in outcomes]
        assert errors[0] > 1 and errors[2] < 0.35 and errors[2] < errors[0] / 4
        assert distances[0] > 0.1 and distances[2] < 0.05

    def test_linear_reward(self):
        reward = Linear([1.0, 0.5])
        exact, _ = tilted(FIVE, reward, 0.55)
        found, distance = outcome(DAS(12), 800, reward, 0.55, steps=60)
        assert found == pytest.approx(exact, abs=0.2) and distance < 0.05

    def test_without_derivatives_any_reward_will_do(self):
        blunt = CallableReward(lambda samples, prompts: QUADRATIC(samples, prompts).tolist(), name="blunt")
        given = large(FIVE, blunt, LAMBDA)
        x = DAS(16, derivative_free=True)(given, 700)
        exact, frequencies = tilted(FIVE, QUADRATIC, LAMBDA)
        assert given.meter.backward == 0 and not DAS(derivative_free=True).gradients and DAS().gradients
        assert total_variation(FIVE.frequencies(x), frequencies) < 0.06
        assert QUADRATIC(x, []).mean().item() == pytest.approx(exact, abs=0.5)

    def test_tokens_without_derivatives(self):
        assert DAS(4, derivative_free=True)(task(TOKENS, TABLE, steps=4), 3).shape == (3, 3)

    def test_gradients_follow_resampled_particles(self):
        given, sampler, rows = task(FIVE, QUADRATIC, LAMBDA, steps=10), DAS(), torch.tensor([3, 0, 0, 2])
        t, s = given.steps[4]
        x = FIVE.draw(4, seed=3)
        x0_hat = sampler.predict(given, x, t)
        sampler.follow(rows)
        model = given.solver.transition(x0_hat[rows], x[rows], t, s)
        expected = model.mean + sampler.tempering(5, 10) * model.std**2 * reward_slope(given, x[rows], t).gradient
        torch.testing.assert_close(sampler.propose(given, x[rows], x0_hat[rows], 4, model).mean, expected)

    def test_tempering(self):
        assert DAS().tempering(0, 10) == 0 and DAS().tempering(10, 10) == pytest.approx(1)
        assert DAS(gamma=0.008).tempering(86, 100) < 1 == DAS(gamma=0.008).tempering(88, 100)
        assert DAS(gamma=0.1).tempering(2, 50) == pytest.approx(0.21)

    def test_counts(self):
        given = task(FIVE, QUADRATIC, LAMBDA, steps=5)
        DAS(3)(given, 2)
        meter = given.meter
        assert (meter.network, meter.backward, meter.rewards) == (30, 30, 36)


def pictures(model=None, reward=BRIGHTNESS, steps=4, **settings):
    model = model or backbone()
    return Task(model, GaussianAncestral(model.schedule, steps), reward, "a cat", **settings)


def brightness(given, x):
    with torch.no_grad():
        return given.backbone.decode(x).mean().item()


@pytest.mark.parametrize(
    ("sampler", "temperature"),
    [(UniversalGuidance(1e3), 100.0), (DPS(best=1.0), 100.0), (DAS(2), 1e4), (DATE(5.0, every=1), 100.0)],
    ids=lambda given: type(given).__name__,
)
def test_pictures_become_brighter_and_weights_have_no_gradient(sampler, temperature):
    given, plain = pictures(temperature=temperature), pictures()
    assert brightness(given, sampler(given, 4)) > brightness(plain, BestOfN(1)(plain, 4))
    assert all(parameter.grad is None for parameter in given.backbone.parameters())


class TestDATE:
    def spied(self, monkeypatch, model, sampler, count=2):
        """The conditions of all calls of one run, and its task."""
        seen, predict = [], model.predict
        monkeypatch.setattr(
            model, "predict", lambda x, t, c: seen.append({k: v.detach() for k, v in c.items()}) or predict(x, t, c)
        )
        given = pictures(model)
        sampler(given, count)
        return seen, given

    def test_only_the_conditional_half_moves_by_rho(self, monkeypatch):
        seen, given = self.spied(monkeypatch, backbone(), DATE(0.5, every=2))
        # Calls: update, step, step, update, step, step.
        assert len(seen) == 6 and given.meter.network == 12 and given.meter.backward == 4
        assert given.meter.rewards == given.meter.decodes == 4
        for call in seen:
            assert torch.equal(call["negative_embeds"], given.condition["negative_embeds"].expand(2, -1, -1))
        first, second, third, fourth, fifth = (call["embeds"] for call in seen[:5])
        assert torch.equal(first, given.condition["embeds"].expand(2, -1, -1))
        assert torch.equal(second, third) and torch.equal(third, fourth)
        for one, other in ((first, second), (fourth, fifth)):
            torch.testing.assert_close((other - one).flatten(1).norm(dim=1), torch.full((2,), 0.5), rtol=1e-4, atol=0)
        assert not torch.allclose(second[0], second[1])

    def test_the_update_follows_the_gradient(self):
        given = pictures()
        x = given.start(given.generators(1))
        condition = dict(given.condition)
        moved = DATE(0.01).updated(given, x, 1.0, condition, condition)
        assert set(moved) == {"embeds"}
        embeds = given.condition["embeds"].requires_grad_()
        value = given.value(given.predict(x, 1.0, condition | {"embeds": embeds})).sum()
        (gradient,) = torch.autograd.grad(value, embeds)
        torch.testing.assert_close(
            moved["embeds"] - embeds.detach(), 0.01 * gradient / gradient.norm(), atol=1e-6, rtol=1e-3
        )

    def test_an_anchor_as_strong_as_the_reward(self):
        """Its gradient is -2 anchor (c - c_0) / numel."""
        given = pictures()
        x, first = given.start(given.generators(1)), given.condition["embeds"]
        gap = torch.randn(first.shape, generator=torch.Generator().manual_seed(0))
        away = (first + gap).requires_grad_()
        value = given.value(given.predict(x, 1.0, given.condition | {"embeds": away})).sum()
        (gradient,) = torch.autograd.grad(value, away)
        anchor = gap.numel() * gradient.norm() / gap.norm() / 2
        both = gradient - 2 * anchor * gap / gap.numel()
        condition = given.condition | {"embeds": away.detach()}
        moved = DATE(0.01, anchor=anchor.item()).updated(given, x, 1.0, condition, given.condition)["embeds"]
        torch.testing.assert_close(moved - away.detach(), 0.01 * both / both.norm(), atol=1e-6, rtol=1e-3)

    def test_inner_updates_are_counted_and_add_up(self, monkeypatch):
        seen, given = self.spied(monkeypatch, backbone(), DATE(0.5, every=2, inner=3))
        assert given.meter.network == 2 * (2 * 3 + 4) and given.meter.backward == 2 * 2 * 3
        embeds = [call["embeds"] for call in seen]
        for before, after in zip(embeds[:3], embeds[1:4], strict=True):
            torch.testing.assert_close(
                (after - before).flatten(1).norm(dim=1), torch.full((2,), 0.5), rtol=1e-4, atol=0
            )
        assert torch.equal(embeds[3], embeds[4])

    def test_batches_change_nothing(self):
        whole, parts = pictures(), pictures(batch_size=1)
        sampler = DATE(2.0, every=1, anchor=1.0)
        torch.testing.assert_close(sampler(whole, 3), sampler(parts, 3), rtol=1e-3, atol=1e-4)
        assert whole.meter.network == parts.meter.network and whole.meter.backward == parts.meter.backward

    def test_a_heavy_anchor_pulls_back(self):
        given = pictures()
        x, first = given.start(given.generators(1)), given.condition
        away = first | {"embeds": first["embeds"] + 1}
        moved = DATE(0.1, anchor=1e9).updated(given, x, 1.0, away, first)["embeds"]
        torch.testing.assert_close(
            away["embeds"] - moved, torch.full_like(moved, 0.1 / moved.numel() ** 0.5), rtol=1e-2, atol=1e-6
        )

    def test_sizes_of_sdxl_stay(self):
        from lidar_lightning import StableDiffusionXL

        given = pictures(StableDiffusionXL(build("StableDiffusionXL"), guidance_scale=3.0))
        x = given.start(given.generators(1))
        assert set(DATE().updated(given, x, 1.0, given.condition, given.condition)) == {"embeds", "text_embeds"}

    @pytest.mark.parametrize(
        ("calls", "every", "inner", "steps"), [(5, 4, 1, 4), (6, 2, 1, 4), (7, 3, 1, 5), (8, 1, 1, 4), (40, 1, 9, 4)]
    )
    def test_within(self, calls, every, inner, steps):
        sampler = DATE().within(calls, 4, 1)
        given = pictures()
        sampler(given, 1)
        assert (sampler.every, sampler.inner, sampler.steps) == (every, inner, steps)
        assert given.meter.network == calls

    def test_models_without_a_prompt_are_refused(self):
        with pytest.raises(ValueError, match="takes none"):
            DATE()(task(FIVE, QUADRATIC), 1)


@pytest.mark.parametrize("sampler", [UniversalGuidance(), DPS(), DAS(), DATE()], ids=lambda s: type(s).__name__)
def test_rewards_without_gradient_are_refused(sampler):
    with pytest.raises(ValueError, match="'blunt' is not differentiable: use a sampler without gradients"):
        sampler(task(FIVE, BLUNT), 1)


def test_gradients_that_are_not_finite_are_named():
    steep = CallableReward(lambda x, _: (0 * x).sum(-1).abs().sqrt(), name="steep", modality="any", differentiable=True)
    with pytest.raises(ValueError, match="gradient of the reward 'steep' is not finite at t = 1"):
        UniversalGuidance()(task(FIVE, steep, LAMBDA), 2)


def test_tokens_are_refused():
    with pytest.raises(ValueError, match="no gradient"):
        UniversalGuidance()(task(TOKENS, QUADRATIC), 1)


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (UniversalGuidance, {"scale": -1}), (UniversalGuidance, {"recurrence": 0}), (UniversalGuidance, {"spread": 0}),
        (UniversalGuidance, {"start": 0.2, "stop": 0.4}), (DPS, {"norm": "none"}), (DPS, {"curvature": -1}),
        (DAS, {"gamma": 0}), (DAS, {"particles": 0}), (DATE, {"rho": 0}), (DATE, {"every": 0}), (DATE, {"anchor": -1}),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(make, settings):
    with pytest.raises(ValueError, match="got"):
        make(**settings)


@pytest.mark.parametrize(
    ("sampler", "calls", "name", "value"),
    [(UniversalGuidance(), 35, "calls", 35), (DPS(), 35, "steps", 35), (DAS(), 36, "particles", 3)],
)
def test_within_a_budget(sampler, calls, name, value):
    given = task(FIVE, QUADRATIC, LAMBDA, steps=10)
    fitted = sampler.within(calls, 10, 1)
    fitted(given, 2)
    assert getattr(fitted, name) == value and given.meter.network <= calls * 2
    with pytest.raises(ValueError, match="at least"):
        sampler.within(9, 10, 1)


def test_gradients_pass_a_float16_vae_that_decodes_in_float32():
    vae = build("StableDiffusion").vae.requires_grad_(False).half()
    vae.register_to_config(force_upcast=True)
    latents = torch.randn(1, 4, 16, 16)
    assert not decode(vae, latents).requires_grad and vae.dtype == torch.float16
    given = latents.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(decode(vae, given).sum(), given)
    assert gradient.isfinite().all() and gradient.any()


def test_an_offloaded_vae_stays_where_a_gradient_has_to_pass_it(monkeypatch):
    model, moves = backbone(offload=True), []
    monkeypatch.setattr(model.pipe.vae, "to", lambda device: moves.append(str(device)))
    latents = torch.randn(1, *model.latent_shape)
    model.decode(latents)
    assert len(moves) == 2
    model.decode(latents.requires_grad_())
    assert len(moves) == 3


def test_slope_leaves_gradients_off_outside():
    with torch.no_grad():
        slope = reward_slope(task(FIVE, QUADRATIC, LAMBDA), torch.zeros(2, 2, dtype=torch.float64), 0.5)
        assert not torch.is_grad_enabled() and not any(part.requires_grad for part in slope)
