"""The DiT denoiser of UDLM: a transformer over tokens whose blocks are modulated by the noise level (adaLN).

Parameter names and shapes are those of the published `kuleshov-group/udlm-*` checkpoints, so that their state dicts
load unchanged. References: Peebles & Xie, "Scalable Diffusion Models with Transformers", arXiv 2212.09748; Schiff et
al., "Simple Guidance Mechanisms for Discrete Diffusion Models", arXiv 2412.10193.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

TIME_FEATURES = 256


class Rotary(nn.Module):
    """Cosine and sine tables of rotary position embeddings (Su et al., arXiv 2104.09864)."""

    inv_freq: Tensor

    def __init__(self, head_dim: int, base: float = 10_000.0):
        super().__init__()
        self.register_buffer("inv_freq", base ** (-torch.arange(0, head_dim, 2).float() / head_dim))

    def forward(self, length: int) -> tuple[Tensor, Tensor]:
        """The cosines and the sines, each (length, head_dim / 2)."""
        angles = torch.outer(torch.arange(length, device=self.inv_freq.device).float(), self.inv_freq.float())
        return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotates the halves of the last dimension of x (B, heads, L, head_dim) by the angles of (L, head_dim / 2)."""
    first, second = x.chunk(2, dim=-1)
    cos, sin = cos.to(x.dtype), sin.to(x.dtype)
    return torch.cat((first * cos - second * sin, first * sin + second * cos), dim=-1)


class Scale(nn.Module):
    """Layer normalisation with a gain and no bias."""

    def __init__(self, dim: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, self.weight)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Shifts and scales x (B, L, D) as its condition says."""
    return x * (1 + scale) + shift


def zero_linear(inputs: int, outputs: int) -> nn.Linear:
    """A linear layer whose weights and biases begin at zero."""
    layer = nn.Linear(inputs, outputs)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer


class TimeEmbedding(nn.Module):
    """Sinusoidal features of the noise level (B,), followed by a two-layer perceptron: (B, dim)."""

    def __init__(self, dim: int):
        super().__init__()
        self.mlp = nn.Sequential(nn.Linear(TIME_FEATURES, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, level: Tensor) -> Tensor:
        half = TIME_FEATURES // 2
        frequencies = torch.exp(-math.log(10_000) * torch.arange(half, device=level.device) / half)
        angles = level[:, None].float() * frequencies
        return self.mlp(torch.cat((angles.cos(), angles.sin()), dim=-1))


class Block(nn.Module):
    """Self-attention and a perceptron, each with the shift, scale and gate of adaLN."""

    def __init__(self, dim: int, heads: int, cond_dim: int, dropout: float):
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.norm1 = Scale(dim)
        self.attn_qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.attn_out = nn.Linear(dim, dim, bias=False)
        self.norm2 = Scale(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(approximate="tanh"), nn.Linear(4 * dim, dim))
        self.adaLN_modulation = zero_linear(cond_dim, 6 * dim)

    def attention(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        q, k, v = self.attn_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        # Sequences are short, and the backward of the fused attention kernel is most of a training step on a CPU.
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(dim=-1)
        return self.attn_out((weights @ v).transpose(1, 2).flatten(2))

    def forward(self, x: Tensor, condition: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(condition)[:, None].chunk(6, dim=-1)
        y = self.attention(modulate(self.norm1(x), shift1, scale1), cos, sin)
        x = x + gate1 * F.dropout(y, self.dropout, self.training)
        y = self.mlp(modulate(self.norm2(x), shift2, scale2))
        return x + gate2 * F.dropout(y, self.dropout, self.training)


class TokenEmbedding(nn.Module):
    """A vector of `dim` numbers for each token."""

    def __init__(self, dim: int, vocab_size: int):
        super().__init__()
        self.embedding = nn.Parameter(torch.empty(vocab_size, dim))
        nn.init.kaiming_uniform_(self.embedding, a=math.sqrt(5))

    def forward(self, tokens: Tensor) -> Tensor:
        return F.embedding(tokens, self.embedding)


class OutputLayer(nn.Module):
    """Maps hidden states, modulated by the condition, to logits of the vocabulary."""

    def __init__(self, dim: int, vocab_size: int, cond_dim: int):
        super().__init__()
        self.norm_final = Scale(dim)
        self.linear = zero_linear(dim, vocab_size)
        self.adaLN_modulation = zero_linear(cond_dim, 2 * dim)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(condition)[:, None].chunk(2, dim=-1)
        return self.linear(modulate(self.norm_final(x), shift, scale))


class DiT(nn.Module):
    """Logits (B, L, vocab_size) of the clean tokens, from noised tokens (B, L) int64 and their noise level (B,)."""

    def __init__(self, vocab_size: int, dim: int, cond_dim: int, blocks: int, heads: int, dropout: float = 0.0):
        super().__init__()
        if dim % (2 * heads):
            raise ValueError(f"hidden_dim must be a multiple of 2 * n_heads, got hidden_dim={dim} and n_heads={heads}")
        self.vocab_embed = TokenEmbedding(dim, vocab_size)
        self.sigma_map = TimeEmbedding(cond_dim)
        self.rotary_emb = Rotary(dim // heads)
        self.blocks = nn.ModuleList(Block(dim, heads, cond_dim, dropout) for _ in range(blocks))
        self.output_layer = OutputLayer(dim, vocab_size, cond_dim)

    def forward(self, tokens: Tensor, level: Tensor) -> Tensor:
        condition = F.silu(self.sigma_map(level))
        cos, sin = self.rotary_emb(tokens.shape[1])
        x = self.vocab_embed(tokens)
        for block in self.blocks:
            x = block(x, condition, cos, sin)
        return self.output_layer(x, condition)
