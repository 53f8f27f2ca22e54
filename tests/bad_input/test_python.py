"""What is refused when it is made in Python: one ValueError that names it."""

import pytest
import torch

from datamodules import PreferenceDataModule, PromptDataModule, QM9DataModule, ShapesDataModule
from lidar_lightning import UDLM, DPOModule, LiDARModule, Lookahead
from lidar_lightning.backbones import smiles
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.functional import temperature_for_ess
from lidar_lightning.modules.reward_tuning import RewardTuningModule
from lidar_lightning.rewards import QED, CallableReward, Combined, ElementCount, JPEGCompressibility
from lidar_lightning.samplers import DAS, DATE, DCBG, DPS, RBF, SMC, SVDD, BackwardRollout, BestOfN, LiDAR, Task
from tests.conftest import carbons, tiny

REWARD = CallableReward(carbons)
ROWS = {
    "smiles too long": (lambda: smiles.tokens_of(["C" * 40], 24), "40 tokens, but at most 22 fit"),
    "smiles foreign": (lambda: smiles.tokens_of(["CBr"], 24), "tokens outside the vocabulary: Br"),
    "smiles empty": (lambda: smiles.tokens_of([""], 24), "cannot encode the SMILES ''"),
    "udlm width": (lambda: UDLM(hidden_dim=33, n_heads=3), "hidden_dim must be a multiple of 2 * n_heads, got 33"),
    "udlm none": (lambda: UDLM.from_pretrained(None), "got None"),
    "udlm number": (lambda: UDLM.from_pretrained(3), "got 3"),
    "solver steps": (lambda: tiny().solver(0), "at least 1 step, got 0"),
    "lora rank": (lambda: LoRA(rank=0), "rank >= 1"),
    "lora dropout": (lambda: LoRA(dropout=1.0), "dropout in [0, 1)"),
    "lookahead n": (lambda: Lookahead(n=-5), "n must be at least 1, got -5"),
    "prompts number": (lambda: PromptDataModule([3]), "prompt 0 is 3"),
    "prompts set": (lambda: PromptDataModule({"a"}), "give a list with at least one"),
    "shapes count": (lambda: ShapesDataModule(count=0), "count at least 1"),
    "shapes batch": (lambda: ShapesDataModule(batch_size=0), "samples and batch_size must be at least 1"),
    "qm9 both": (lambda: QM9DataModule("a.smi", "b/c"), "not both"),
    "pairs fraction": (lambda: PreferenceDataModule(".", fraction=0.7), "fraction must be in (0, 0.5]"),
    "pairs validation": (lambda: PreferenceDataModule(".", validation=1.0), "validation in [0, 1)"),
    "dpo beta": (lambda: DPOModule(tiny(), beta=-1), "beta > 0"),
    "dpo draws": (lambda: DPOModule(tiny(), draws=0), "draws >= 1"),
    "dpo decay": (lambda: DPOModule(tiny(), decay=2), "decay in [0, 1]"),
    "dpo export": (lambda: DPOModule(tiny(), export="x"), "only LoRA of image models is exported"),
    "draft reward": (lambda: RewardTuningModule(tiny(), REWARD), "is not differentiable"),
    "lidar reward": (lambda: LiDARModule(tiny(), "qed"), "a reward must be a Reward, got a str"),
    "lidar none": (lambda: LiDARModule(tiny(), None), "a reward must be a Reward, got a NoneType"),
    "lidar metric": (lambda: LiDARModule(tiny(), REWARD, metrics=[JPEGCompressibility()]), "modality 'image'"),
    "lidar backbone": (lambda: LiDARModule("udlm-qm9-small", REWARD), "must be a Backbone"),
    "lidar lookahead": (lambda: LiDARModule(tiny(), REWARD, lookahead="dpm-5"), "lookahead must be a Lookahead"),
    "lidar both": (lambda: LiDARModule(tiny(), REWARD, temperature=1.0, ess=0.5), "either temperature"),
    "atom": (lambda: ElementCount("Xx"), "Xx"),
    "floor": (lambda: QED(float("inf")), "finite"),
    "quality": (lambda: JPEGCompressibility(0), "from 1 to 95, got 0"),
    "callable": (lambda: CallableReward(3), "not a callable"),
    "combined none": (lambda: Combined([]), ""),
    "combined twice": (lambda: Combined([QED(), QED()]), "qed"),
    "combined how": (lambda: Combined([QED()], how="max"), "max"),
    "combined weights": (lambda: Combined([QED()], weights=[1.0, 2.0]), ""),
    "best of 0": (lambda: BestOfN(0), "at least 1 particle, got 0"),
    "smc particles": (lambda: SMC(-1), "at least 1 particle, got -1"),
    "smc threshold": (lambda: SMC(threshold=2), "2"),
    "das gamma": (lambda: DAS(gamma=0), "gamma must be above 0"),
    "date rho": (lambda: DATE(rho=0), "rho > 0"),
    "date every": (lambda: DATE(every=0), "every and inner >= 1"),
    "dcbg gamma": (lambda: DCBG(gamma=-1), "-1"),
    "dps norm": (lambda: DPS(norm="x"), "x"),
    "rbf starts": (lambda: RBF(starts=0), "0"),
    "svdd children": (lambda: SVDD(children=0), "0"),
    "rollouts": (lambda: BackwardRollout(rollouts=0), "0"),
    "lidar rounds": (lambda: LiDAR(Lookahead(2, 2), rounds=0), "0"),
    "within": (lambda: BestOfN().within(3, 4, 1), "needs at least 4 network calls"),
    "task temperature": (lambda: Task(tiny(), tiny().solver(2), REWARD, temperature=-1), "at least 0, got -1"),
    "draw nothing": (lambda: BestOfN(1)(Task(tiny(), tiny().solver(2), REWARD), 0), "at least 1 sample, got 0"),
    "ess": (lambda: temperature_for_ess(torch.arange(4.0), 2.0), "2.0"),
}  # fmt: skip


@pytest.mark.parametrize("name", ROWS)
def test_python(name):
    make, message = ROWS[name]
    with pytest.raises(ValueError) as refused:
        make()
    assert message in str(refused.value) and "\n" not in str(refused.value)
