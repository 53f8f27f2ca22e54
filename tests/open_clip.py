"""open_clip's CLIP, small and random, written independently of transformers' own."""

import math

import torch
from torch import nn
from torch.nn import functional

from tests.image_models import CLIP_TOKENS


class Block(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(width, 64), "c_proj": nn.Linear(64, width)})

    def forward(self, x, mask=None):
        h = self.ln_1(x)
        x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.mlp["c_proj"](functional.gelu(self.mlp["c_fc"](self.ln_2(x))))


class Transformer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width, heads) for _ in range(2))

    def forward(self, x, mask=None):
        for block in self.resblocks:
            x = block(x, mask)
        return x


class VisionTower(nn.Module):
    def __init__(self):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.randn(48))
        self.positional_embedding = nn.Parameter(torch.randn(17, 48))
        self.proj = nn.Parameter(torch.randn(48, 24))
        self.conv1 = nn.Conv2d(3, 48, 8, 8, bias=False)
        self.ln_pre, self.transformer, self.ln_post = nn.LayerNorm(48), Transformer(48, 4), nn.LayerNorm(48)

    def forward(self, x):
        x = self.conv1(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1) + self.positional_embedding
        return self.ln_post(self.transformer(self.ln_pre(x))[:, 0]) @ self.proj


class OpenCLIP(nn.Module):
    """open_clip's CLIP on torch's own attention, with open_clip's names of the weights; it stores its causal mask."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(1)
        self.positional_embedding = nn.Parameter(torch.randn(CLIP_TOKENS, 32))
        self.text_projection = nn.Parameter(torch.randn(32, 24))
        self.logit_scale = nn.Parameter(torch.tensor(4.6))
        self.visual, self.transformer = VisionTower(), Transformer(32, 4)
        self.token_embedding, self.ln_final = nn.Embedding(514, 32), nn.LayerNorm(32)
        self.register_buffer("attn_mask", torch.full((CLIP_TOKENS, CLIP_TOKENS), -math.inf).triu(1))
        for name, parameter in self.named_parameters():
            if name.endswith("bias") or ".ln_" in name:
                nn.init.normal_(parameter, mean=float(name.endswith("weight")), std=0.2)

    def forward(self, x, tokens):
        """Cosines (b,); `tokens` (b, L) end in the highest index, after which anything may follow."""
        text = self.token_embedding(tokens) + self.positional_embedding
        text = self.ln_final(self.transformer(text, self.attn_mask))
        text = text[torch.arange(len(text)), tokens.argmax(-1)] @ self.text_projection
        return functional.cosine_similarity(self.visual(x), text)
