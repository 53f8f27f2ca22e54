"""Pipelines on disk: what is saved loads, what cannot be loaded is named."""

import diffusers
import pytest
import torch
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from lidar_lightning import backbones
from lidar_lightning.sampling import sample
from lidar_lightning.utils.seeding import Generators
from tests.backbones.test_image_backbones import make
from tests.pipelines import build


def test_saved_pipeline_loads_and_has_the_same_fingerprint(tmp_path):
    pipe = build("StableDiffusion")
    pipe.save_pretrained(tmp_path)
    loaded = backbones.StableDiffusion.from_pretrained(tmp_path, guidance_scale=3.0, name="x", vae_slicing=True)
    assert loaded.fingerprint() == backbones.StableDiffusion(pipe, guidance_scale=3.0, name="x").fingerprint()
    assert loaded.fingerprint() != make(name="StableDiffusion", seed=1).fingerprint()
    unnamed = backbones.StableDiffusion.from_pretrained(tmp_path)
    assert unnamed.name == tmp_path.name and unnamed.height == 32


def test_what_cannot_be_loaded_is_named(tmp_path):
    with pytest.raises(ValueError, match="no StableDiffusionPipeline at 'nobody/nothing'"):
        backbones.StableDiffusion.from_pretrained("nobody/nothing")
    with pytest.raises(ValueError, match="unknown dtype 'int8'"):
        backbones.StableDiffusion.from_pretrained(tmp_path, dtype="int8")
    with pytest.raises(ValueError, match="wraps a StableDiffusionPipeline, got a FluxPipeline"):
        backbones.StableDiffusion(build("Flux"))
    with pytest.raises(ValueError, match="multiples of 4, got 30 and 32"):
        make("Flux", height=30)
    with pytest.raises(ValueError, match="no scheduler 'Nothing'"):
        make(scheduler="Nothing")
    with pytest.raises(ValueError, match="cannot solve with a KDPM2DiscreteScheduler"):
        make(scheduler="KDPM2DiscreteScheduler")
    with pytest.raises(ValueError, match="DDIMScheduler steps through variance-preserving noise, but the model was"):
        make("Flux", scheduler="DDIMScheduler")
    with pytest.raises(ValueError, match="steps through flow matching, but the model"):
        make(scheduler="FlowMatchEulerDiscreteScheduler")


@pytest.mark.parametrize(
    ("name", "tokenizer"),
    [
        ("StableDiffusion", "tokenizer"),
        ("StableDiffusionXL", "tokenizer_2"),
        ("StableDiffusion3", "tokenizer_2"),
        ("Flux", "tokenizer"),
    ],
)
def test_a_pipeline_without_a_vocabulary_is_refused(tmp_path, name, tokenizer):
    build(name).save_pretrained(tmp_path)
    for file in (tmp_path / tokenizer).glob("*"):
        if file.name != "tokenizer_config.json":
            file.unlink()
    with pytest.raises(ValueError, match=f"the {tokenizer} of the {name}Pipeline at .* knows 2 tokens, .* embeds 54"):
        getattr(backbones, name).from_pretrained(tmp_path)


@pytest.fixture
def lora_file(tmp_path):
    pipe = build("StableDiffusion")
    pipe.unet.add_adapter(LoraConfig(r=2, target_modules=["to_q", "to_v"], init_lora_weights=False))
    state = convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.unet))
    pipe.save_lora_weights(tmp_path / "lora", unet_lora_layers=state)
    build("StableDiffusion").save_pretrained(tmp_path / "model")
    return tmp_path / "lora" / "pytorch_lora_weights.safetensors"


def test_adapters_are_on_only_where_they_are_asked_for(lora_file):
    source = lora_file.parent.parent / "model"
    load = backbones.StableDiffusion.from_pretrained
    plain, adapted = load(source, name="x"), load(source, name="x", lora={"fast": str(lora_file)})
    off = adapted.variant(lora_scales={}, name="x")
    assert adapted.name == "x+fast" and off.fingerprint() == plain.fingerprint() != adapted.fingerprint()

    def draw(backbone):
        return sample(backbone, backbone.solver(2), Generators([0]), backbone.encode(["a"])).samples

    assert torch.equal(draw(off), draw(plain)) and not torch.allclose(draw(adapted), draw(plain), atol=1e-3)
    stock = diffusers.StableDiffusionPipeline.from_pretrained(source)
    stock.set_progress_bar_config(disable=True)
    stock.load_lora_weights(lora_file.parent, weight_name=lora_file.name, adapter_name="fast")
    stock.set_adapters(["fast"], [0.5])
    expected = stock("a", num_inference_steps=2, generator=Generators([0]).streams, output_type="latent").images
    half = adapted.variant(lora_scales={"fast": 0.5})
    torch.testing.assert_close(draw(half), expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(draw(off), draw(plain))
    with pytest.raises(ValueError, match=r"no LoRA adapters \['slow'\] are loaded, only \['fast'\]"):
        adapted.variant(lora_scales={"slow": 1.0})


@pytest.mark.parametrize("given", [{}, {"lora_scales": None}])
def test_adapters_that_are_loaded_are_on_unless_scales_say_otherwise(lora_file, given):
    """Null is what a YAML says of a setting that it leaves out."""
    load, adapters = backbones.StableDiffusion.from_pretrained, dict.fromkeys(("one", "two"), str(lora_file))
    assert load(lora_file.parent.parent / "model", lora=adapters, **given).lora_scales == {"one": 1.0, "two": 1.0}
    assert load(lora_file.parent.parent / "model", lora=adapters, lora_scales={"one": 0.5}).lora_scales == {"one": 0.5}


def test_adapters_that_do_not_load_are_named(lora_file, tmp_path):
    build("StableDiffusionXL").save_pretrained(tmp_path / "xl")
    with pytest.raises(ValueError, match="does not load into a StableDiffusionXLPipeline"):
        backbones.StableDiffusionXL.from_pretrained(tmp_path / "xl", lora={"fast": str(lora_file)})
    with pytest.raises(ValueError, match="the LoRA at 'missing' does not load"):
        backbones.StableDiffusion.from_pretrained(tmp_path / "model", lora={"fast": "missing"})
