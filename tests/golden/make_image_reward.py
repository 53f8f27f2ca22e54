"""Makes image_reward.safetensors: scores and gradients by the modules of the `image-reward` package, tiny weights.

    pip download --no-deps image-reward==1.5 && unzip image_reward-*.whl -d source
    python tests/golden/make_image_reward.py source

The package cannot be imported beside today's transformers, so what it takes from timm, fairscale, torchvision and old
transformers is replaced here by the few lines that its forward pass needs; the forward pass itself is the package's.
Weights are rounded to 8 bits to keep the file small; both sides compute with the rounded ones.
"""

import importlib
import sys
import types
from pathlib import Path

import torch
import transformers.modeling_utils
from safetensors.torch import save_file
from torch import nn

TARGET = Path(__file__).parent / "image_reward.safetensors"
WIDTH, TEXT_WIDTH, HEADS, TEXT_HEADS = 32, 24, 4, 3


class PatchEmbed(nn.Module):
    """timm's: non-overlapping patches, linearly embedded."""

    def __init__(self, img_size: int, patch_size: int, in_chans: int, embed_dim: int):
        super().__init__()
        self.num_patches = (img_size // patch_size) ** 2
        self.proj = nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)

    def forward(self, x):
        return self.proj(x).flatten(2).transpose(1, 2)


def module(name: str, **contents) -> None:
    sys.modules[name] = types.ModuleType(name)
    vars(sys.modules[name]).update(contents)


def unused(*args, **kwargs):
    raise RuntimeError("the forward pass does not need this")


def shim() -> None:
    """Stands in for what the package's BLIP imports, before the package is imported."""
    module("timm.models.vision_transformer", _cfg=unused, PatchEmbed=PatchEmbed)
    module("timm.models.registry", register_model=unused)
    module("timm.models.layers", trunc_normal_=nn.init.trunc_normal_, DropPath=unused)
    module("timm.models.helpers", named_apply=unused, adapt_input_conv=unused)
    module("timm.models.hub", download_cached_file=unused)
    module("fairscale.nn.checkpoint.checkpoint_activations", checkpoint_wrapper=unused)
    names = ("Compose", "Resize", "CenterCrop", "ToTensor", "Normalize")
    module("torchvision.transforms", **dict.fromkeys(names, lambda *args, **kwargs: None))
    utils = transformers.modeling_utils
    utils.apply_chunking_to_forward = lambda function, size, dim, *inputs: function(*inputs)
    utils.find_pruneable_heads_and_indices = utils.prune_linear_layer = unused
    utils.PreTrainedModel.init_weights = lambda self: None
    utils.PreTrainedModel.get_head_mask = lambda self, mask, layers: [None] * layers
    utils.PreTrainedModel.invert_attention_mask = lambda self, mask: (1.0 - mask[:, None, None, :].float()) * -1e9


def package(source: Path) -> types.ModuleType:
    """ImageReward.ImageReward, without running the package's own __init__, which imports much more."""
    for name in ("ImageReward", "ImageReward.models", "ImageReward.models.BLIP"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(source / name.replace(".", "/"))]
    return importlib.import_module("ImageReward.ImageReward")


def main(source: str) -> None:
    shim()
    torch.manual_seed(0)
    original = package(Path(source))
    blip = importlib.import_module("ImageReward.models.BLIP.blip_pretrain")
    vit = importlib.import_module("ImageReward.models.BLIP.vit")
    bert = dict(
        vocab_size=40,
        hidden_size=TEXT_WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=TEXT_HEADS,
        max_position_embeddings=36,
        add_cross_attention=True,
    )
    blip.create_vit = lambda *args: (
        vit.VisionTransformer(img_size=16, patch_size=4, embed_dim=WIDTH, depth=2, num_heads=HEADS),
        WIDTH,
    )
    blip.init_tokenizer = lambda: None
    blip.BertConfig.from_json_file = lambda path: blip.BertConfig(**bert)
    network = original.ImageReward(med_config=None)
    network.mlp = original.MLP(TEXT_WIDTH)
    network.eval()

    state = network.state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            centre = 1.0 if key.endswith(("norm1.weight", "norm2.weight", "norm.weight", "LayerNorm.weight")) else 0.0
            spread = 0.3 if value.ndim < 2 or "embed" in key else value[0].numel() ** -0.5
            state[key] = (centre + spread * torch.randn(value.shape)).to(torch.float8_e4m3fn)
    network.load_state_dict(state)

    images = torch.randn(5, 3, 16, 16, requires_grad=True)
    input_ids = torch.randint(3, 40, (5, 9))
    attention_mask = (torch.arange(9) < torch.tensor([9, 4, 1, 7, 9])[:, None]).long()
    encoded = network.blip.visual_encoder(images)
    scores = network.score_gard(input_ids, attention_mask, images).squeeze(-1)
    (gradient,) = torch.autograd.grad(scores.sum(), images)
    stored = {f"weights.{key}": value.contiguous() for key, value in state.items()}
    stored |= dict(images=images, input_ids=input_ids, attention_mask=attention_mask)
    stored |= dict(encoded=encoded, scores=scores, gradient=gradient)
    save_file({key: value.detach().clone() for key, value in stored.items()}, TARGET)
    print(f"{TARGET.name}: {TARGET.stat().st_size} bytes, scores {scores.tolist()}")


if __name__ == "__main__":
    main(*sys.argv[1:])
