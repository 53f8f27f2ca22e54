"""Networks whose frozen weights are kept in 8 or 4 bits, by torchao or bitsandbytes."""

from importlib.util import find_spec
from typing import Any, Literal

import diffusers

Quantization = Literal["torchao-int8", "bitsandbytes-8bit", "bitsandbytes-4bit"]
NETWORKS = ("unet", "transformer")
"""The names that pipelines give their denoiser."""


def quantization_of(kind: Quantization, cls: Any) -> Any:
    """The argument by which `from_pretrained` of a pipeline class quantizes the weights of its network, and no others.

    "torchao-int8" runs on any device. The others, "bitsandbytes-8bit" and "bitsandbytes-4bit" (nf4), run on the devices
    that bitsandbytes supports.

    Raises:
        ValueError: if the kind is unknown, or its library is not installed.
    """
    if kind not in ("torchao-int8", "bitsandbytes-8bit", "bitsandbytes-4bit"):
        raise ValueError(f"quantization is 'torchao-int8', 'bitsandbytes-8bit' or 'bitsandbytes-4bit', got {kind!r}")
    library, _, bits = kind.partition("-")
    if find_spec(library) is None:
        raise ValueError(f"quantization {kind!r} needs {library}: pip install 'lidar-lightning[quantization]'")
    config: Any
    if library == "torchao":
        from torchao.quantization import Int8WeightOnlyConfig

        config = diffusers.TorchAoConfig(Int8WeightOnlyConfig())
    elif bits == "8bit":
        config = diffusers.BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = diffusers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    parts = cls._get_signature_types()
    return diffusers.PipelineQuantizationConfig(quant_mapping={name: config for name in NETWORKS if name in parts})
