"""A LoRA on a network whose frozen weights are of 8 bits: for real where torchao is there, else the reason why not."""

from importlib.util import find_spec

import pytest
import torch
from diffusers import StableDiffusion3Pipeline

from lidar_lightning import AnyPipeline, DPOModule
from lidar_lightning.backbones.adapters import LoRA
from lidar_lightning.backbones.quantization import quantization_of
from tests import modern_pipelines
from tests.backbones.test_any_pipeline import make

LIBRARIES = {"torchao-int8": "torchao", "bitsandbytes-8bit": "bitsandbytes", "bitsandbytes-4bit": "bitsandbytes"}


@pytest.mark.parametrize("kind", LIBRARIES)
def test_only_the_network_is_quantized_and_a_library_that_lacks_is_named(kind):
    if find_spec(LIBRARIES[kind]) is None:
        with pytest.raises(
            ValueError, match=rf"needs {LIBRARIES[kind]}: pip install 'lidar-lightning\[quantization\]'"
        ):
            quantization_of(kind, StableDiffusion3Pipeline)
    else:
        assert list(quantization_of(kind, StableDiffusion3Pipeline).quant_mapping) == ["transformer"]


def test_other_kinds_are_refused():
    with pytest.raises(ValueError, match="quantization is 'torchao-int8', .* got 'int2'"):
        quantization_of("int2", StableDiffusion3Pipeline)


@pytest.mark.skipif(find_spec("torchao") is None, reason="torchao, of the extra quantization, is not installed")
def test_a_lora_trains_on_weights_of_8_bits(tmp_path):
    modern_pipelines.build("ZImage").save_pretrained(tmp_path)
    plain, call = make("ZImage"), make("ZImage").call
    model = AnyPipeline.from_pretrained(tmp_path, call=call, quantization="torchao-int8", name="ZImage")
    assert model.network.layers[0].attention.to_q.weight.dequantize().shape == (16, 16)
    assert model.fingerprint() != plain.fingerprint()
    errors = []
    x0 = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    for backbone in (model, plain):
        module = DPOModule(backbone, beta=1.0, lora=LoRA(2), draws=1)
        terms, policy, fixed = module.terms(
            x0, x0.flip(0), torch.Generator().manual_seed(1), backbone.told(["a cat"] * 2)
        )
        torch.testing.assert_close(policy, fixed)
        terms.loss.sum().backward()
        assert any(p.grad is not None and p.grad.any() for p in module.parameters() if p.requires_grad)
        errors.append(fixed)
    torch.testing.assert_close(*errors, rtol=0.02, atol=0.02)
