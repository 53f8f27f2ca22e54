"""Lookahead presets: the published table, and adapters or weights that are used for lookaheads only."""

import pytest
import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from lidar_lightning import Flux, Lookahead, StableDiffusion
from lidar_lightning.lookahead.presets import Preset, load_presets, lookahead_backbone, preset
from lidar_lightning.rewards import CallableReward
from lidar_lightning.sampling import sample
from lidar_lightning.utils.seeding import Generators
from tests.pipelines import build

REWARD = CallableReward(lambda samples, prompts: samples.mean((1, 2, 3)), name="brightness")


def backbone(seed=0):
    return StableDiffusion(build("StableDiffusion", seed), guidance_scale=3.0, name="tiny")


def draw(model, steps=2):
    return sample(model, model.solver(steps), Generators([0]), model.encode(["a cat"])).samples


def test_every_preset_has_the_published_steps():
    expected = {"dpm-3": 3, "dpm-5": 5, "dpm-8": 8, "dmd2-1": 1, "dmd2-4": 4, "hyper-sd-1": 1, "hyper-flux-8": 8}
    presets = load_presets()
    assert expected.items() <= {name: one.steps for name, one in presets.items()}.items()
    for one in presets.values():
        assert one.steps == len(one.grid.get("timesteps", range(one.steps))) and not (one.lora and one.weights)


@pytest.mark.parametrize("name", [name for name, one in load_presets().items() if not one.lora and not one.weights])
def test_presets_without_files_draw(name):
    lookahead = Lookahead(n=3, preset=name)
    bank = lookahead.bank(backbone(), "a cat", 0, [REWARD])
    assert bank.provenance.steps == preset(name).steps and bank.samples.isfinite().all()
    assert bank.provenance.solver.startswith("DPMSolverMultistepScheduler")


def test_multistep_solvers_follow_the_flow():
    model = Flux(build("Flux"), height=32, width=32, name="flow")
    fast = lookahead_backbone(model, "dpm-5")
    assert type(fast.scheduler).__name__ == "DPMSolverMultistepScheduler" and fast.kind == "flow_prediction"
    assert Lookahead(n=3, preset="dpm-5").bank(model, "a cat", 0, [REWARD]).samples.isfinite().all()


@pytest.fixture
def files(tmp_path, monkeypatch):
    pipe = build("StableDiffusion")
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q"], init_lora_weights=False))
    pipe.save_lora_weights(tmp_path / "lora", unet_lora_layers=get_peft_model_state_dict(pipe.unet))
    save_file(build("StableDiffusion", seed=1).unet.state_dict(), tmp_path / "unet.safetensors")
    lcm = {"steps": 1, "scheduler": "LCMScheduler", "guidance_scale": 0.0, "grid": {"timesteps": [800]}}
    presets = {
        "adapter": Preset(2, lora=str(tmp_path / "lora"), lora_scale=0.5),
        "other": Preset(**lcm, weights=str(tmp_path / "unet.safetensors")),
        "broken": Preset(2, weights=str(tmp_path / "missing.safetensors")),
    }
    monkeypatch.setattr("lidar_lightning.lookahead.presets.load_presets", lambda: presets)


def test_adapter_is_on_for_lookaheads_only(files):
    model = backbone()
    plain, fingerprint = draw(model), model.fingerprint()
    fast = Lookahead(n=3, preset="adapter").source(model)
    assert fast.lora_scales == {"adapter": 0.5} and not torch.allclose(draw(fast), plain, atol=1e-3)
    assert torch.equal(draw(model), plain) and model.fingerprint() == fingerprint != fast.fingerprint()


def test_an_adapter_is_loaded_once_for_lookaheads_of_every_size(files):
    model, lookahead = backbone(), Lookahead(n=3, preset="adapter")
    bigger = [lookahead.of_size(n) for n in (4, 5)]
    assert bigger[0].source(model) is bigger[1].source(model) is lookahead.source(model)


def test_other_weights_share_the_latent_space(files):
    model = backbone()
    fast = lookahead_backbone(model, "other")
    assert fast.pipe.vae is model.pipe.vae and fast.network is not model.network and not fast.guided
    expected = build("StableDiffusion", seed=1).unet
    assert all(torch.equal(v, expected.state_dict()[k]) for k, v in fast.network.state_dict().items())
    bank = Lookahead(n=3, preset="other").bank(model, "a cat", 0, [REWARD])
    assert bank.provenance.steps == 1 and bank.provenance.backbone == "tiny+other"


def test_what_cannot_be_had_is_named(files, udlm):
    with pytest.raises(ValueError, match="no lookahead preset 'none': use one of adapter, other"):
        Lookahead(preset="none")
    with pytest.raises(ValueError, match="do not load as a StableDiffusionPipeline's unet"):
        lookahead_backbone(backbone(), "broken")
    with pytest.raises(ValueError, match="for image models, not for UDLM"):
        lookahead_backbone(udlm, "adapter")
