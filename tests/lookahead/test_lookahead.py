import pytest
import torch

from lidar_lightning import BankStore, Lookahead
from lidar_lightning.rewards import CallableReward
from lidar_lightning.solvers import Ancestral
from tests.conftest import tiny


def test_batch_size_and_position_do_not_change_the_bank(udlm, carbon_reward):
    whole = Lookahead(3, n=10, batch_size=10).bank(udlm, "a", 0, [carbon_reward])
    parts = Lookahead(3, n=10, batch_size=3).bank(udlm, "a", 0, [carbon_reward])
    fewer = Lookahead(3, n=4).bank(udlm, "a", 0, [carbon_reward])
    assert torch.equal(whole.samples, parts.samples) and torch.equal(whole.samples[:4], fewer.samples)
    assert torch.equal(whole.rewards["carbons"], parts.rewards["carbons"])


def test_a_bank_is_decoded_in_batches(udlm, carbon_reward, monkeypatch):
    decode, sizes = udlm.decode, []
    monkeypatch.setattr(udlm, "decode", lambda samples: sizes.append(len(samples)) or decode(samples))
    Lookahead(3, n=10, batch_size=4).bank(udlm, "a", 0, [carbon_reward])
    assert sizes == [4, 4, 2]


def test_seed_and_prompt_change_the_bank(udlm, carbon_reward):
    banks = [Lookahead(3, n=10).bank(udlm, p, s, [carbon_reward]).samples for p, s in (("a", 0), ("b", 0), ("a", 1))]
    assert not torch.equal(banks[0], banks[1]) and not torch.equal(banks[0], banks[2])


def test_stored_bank_is_not_drawn_again(udlm, carbon_reward, tmp_path, monkeypatch):
    store = BankStore(tmp_path)
    first = Lookahead(3, n=10).bank(udlm, "a", 0, [carbon_reward], store)
    monkeypatch.setattr(udlm, "predict", lambda *_: pytest.fail("sampled again"))
    length = CallableReward(lambda samples, prompts: [len(s) for s in samples], name="length")
    again = Lookahead(3, n=10).bank(udlm, "a", 0, [carbon_reward, length], store)
    assert torch.equal(first.samples, again.samples) and set(again.rewards) == {"carbons", "length"}
    assert set(store.get(again.provenance).rewards) == {"carbons", "length"}


def test_damaged_bank_is_built_again(udlm, carbon_reward, tmp_path):
    store = BankStore(tmp_path)
    first = Lookahead(3, n=10).bank(udlm, "a", 0, [carbon_reward], store)
    path = store.path(first.provenance)
    path.write_bytes(path.read_bytes()[:100])
    again = Lookahead(3, n=10).bank(udlm, "a", 0, [carbon_reward], store)
    assert torch.equal(first.samples, again.samples) and store.get(first.provenance) is not None


def test_other_weights_may_draw(udlm, carbon_reward):
    other = tiny(seed=1)
    bank = Lookahead(3, n=10, backbone=other).bank(udlm, "a", 0, [carbon_reward])
    assert bank.provenance.fingerprint == other.fingerprint() != udlm.fingerprint()


@pytest.mark.parametrize("setting", ["steps", "n", "batch_size"])
def test_settings_below_one_are_refused(setting):
    with pytest.raises(ValueError, match=f"{setting} must be at least 1, got 0"):
        Lookahead(**{setting: 0})


def test_another_time_grid_is_another_bank(udlm, monkeypatch):
    spaced = Lookahead(3).provenance(udlm, "a", 0)
    monkeypatch.setattr(udlm, "solver", lambda steps: Ancestral(udlm.schedule, steps, power=1.0))
    equal = Lookahead(3).provenance(udlm, "a", 0)
    assert (spaced.solver, equal.solver) == ("Ancestral(power=2)", "Ancestral(power=1)")
    assert spaced.key() != equal.key()
