import copy

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import nn
from torch.optim import AdamW, Muon
from torch.optim.lr_scheduler import LambdaLR

from datamodules import QM9DataModule
from lidar_lightning import UDLM, PretrainModule
from lidar_lightning.pretraining.optim import MuonAdamW
from tests.conftest import tiny


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 4))


def split(model):
    matrices = [p for p in model.parameters() if p.ndim == 2]
    return matrices, [p for p in model.parameters() if p.ndim == 1]


def step(model, *optimizers):
    for optimizer in optimizers:
        optimizer.zero_grad()
    model(torch.arange(18.0).view(3, 6) / 10).square().sum().backward()
    for optimizer in optimizers:
        optimizer.step()


def test_optimizer_is_muon_and_adamw():
    one, other = network(), network()
    joint = MuonAdamW(*split(one), lr=0.01)
    muon = Muon(split(other)[0], lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    adam = AdamW(split(other)[1], lr=0.01, betas=(0.9, 0.98), weight_decay=0.0)
    for _ in range(3):
        step(one, joint)
        step(other, muon, adam)
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(a, b)


def test_schedule_reaches_both_parts_and_state_resumes():
    model = network()
    optimizer = MuonAdamW(*split(model), lr=0.01)
    schedule = LambdaLR(optimizer, lambda k: 1 / (k + 1))
    step(model, optimizer)
    schedule.step()
    assert [group["lr"] for part in optimizer.parts for group in part.param_groups] == [0.005, 0.005]
    again = copy.deepcopy(model)
    resumed = MuonAdamW(*split(again), lr=1.0)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(model, optimizer)
    step(again, resumed)
    for a, b in zip(model.parameters(), again.parameters(), strict=True):
        assert torch.equal(a, b)


def test_times_are_spread_evenly():
    t = PretrainModule(tiny()).times(1000, torch.tensor([0.3]))
    assert 1e-3 <= t.min() < t.max() < 1
    assert (t.sort().values.diff() - 0.999e-3).abs().max() < 1e-5


def test_training_lowers_the_bound_and_validates_the_average(tmp_path):
    path = tmp_path / "molecules.txt"
    path.write_text("\n".join("C" * k + "O" * j for k in range(1, 8) for j in range(8)))
    model = UDLM(model_length=17, hidden_dim=32, cond_dim=16, n_blocks=2, n_heads=2, dropout=0.0)
    data = QM9DataModule(str(path), length=17, batch_size=44, validation=10)
    trainer = L.Trainer(
        max_steps=150, val_check_interval=1, check_val_every_n_epoch=50, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[EMAWeightAveraging(decay=0.9)],
    )  # fmt: skip
    module = PretrainModule(model, lr=1e-2, samples=16)
    trainer.fit(module, data)
    uniform = 17 * torch.log(torch.tensor(35.0)).item()
    assert trainer.callback_metrics["val/nelbo"] < uniform / 3
    assert 0.3 < trainer.callback_metrics["val/valid"] <= 1


def test_bad_schedule_is_refused():
    with pytest.raises(ValueError, match="fractions of one run"):
        PretrainModule(tiny(), warmup_fraction=0.6, decay=0.5)
