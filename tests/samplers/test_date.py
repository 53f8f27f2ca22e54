"""DATE, on pictures of a tiny pipeline."""

import pytest
import torch

from lidar_lightning.samplers.date import DATE
from tests.exact import FIVE, task
from tests.pictures import backbone, pictures
from tests.pipelines import build
from tests.samplers.test_gradient import QUADRATIC


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
