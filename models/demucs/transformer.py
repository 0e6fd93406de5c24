"""The cross-domain transformer of HTDemucs (v4), in torch.

Parameter names are those of the reference implementation. Attention is written out as projections,
MatMul, Softmax, MatMul, so that the exported graph is one that any runtime runs and that a
provider's fused attention is easily put in place of.

Reference: S. Rouard, F. Massa, A. Défossez, "Hybrid Transformers for Music Source Separation",
ICASSP 2023, section 3.2.
"""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from stemwright.models.demucs.layers import GroupNorm, LayerScale
from stemwright.models.graphs.position_codes import sinusoid_1d, sinusoid_2d

SCALE_INIT = 1e-4


class Attention(nn.Module):
    """Multi-head attention with packed projections (queries, keys, values)."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.dim = dim
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * dim, dim))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * dim))
        self.out_proj = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.in_proj_weight)

    def forward(self, x: Tensor, memory: Tensor) -> Tensor:
        """Attend from `x` [B, T, D] to `memory` [B, M, D]; gives [B, T, D]."""
        query, key, value = (
            self._heads(self._project(tokens, part)) for part, tokens in enumerate((x, memory, memory))
        )
        scores = (query * (self.dim // self.heads) ** -0.5) @ key.transpose(2, 3)
        mixed = torch.softmax(scores, dim=-1) @ value
        out: Tensor = self.out_proj(mixed.transpose(1, 2).reshape(-1, int(x.shape[1]), self.dim))
        return out

    def _project(self, tokens: Tensor, part: int) -> Tensor:
        rows = slice(part * self.dim, (part + 1) * self.dim)
        return functional.linear(tokens, self.in_proj_weight[rows], self.in_proj_bias[rows])

    def _heads(self, x: Tensor) -> Tensor:
        split = x.reshape(-1, int(x.shape[1]), self.heads, self.dim // self.heads)
        return split.transpose(1, 2)


class TokenGroupNorm(GroupNorm):
    """Group normalisation of [B, T, D] over tokens and channels."""

    def forward(self, x: Tensor) -> Tensor:
        """Shape [B, T, D] in and out."""
        return super().forward(x.transpose(1, 2)).transpose(1, 2)


class _Layer(nn.Module):
    """What self- and cross-attention layers share: feed-forward part, scales, output norm."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, hidden)
        self.linear2 = nn.Linear(hidden, dim)
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.norm_out = TokenGroupNorm(1, dim)
        self.gamma_1 = LayerScale(dim, SCALE_INIT, trailing=True)
        self.gamma_2 = LayerScale(dim, SCALE_INIT, trailing=True)

    def _finish(self, x: Tensor, norm: nn.LayerNorm) -> Tensor:
        hidden = self.linear2(functional.gelu(self.linear1(norm(x))))
        out: Tensor = self.norm_out(x + self.gamma_2(hidden))
        return out


class SelfLayer(_Layer):
    """Pre-norm self-attention layer."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__(dim, hidden)
        self.self_attn = Attention(dim, heads)

    def forward(self, x: Tensor) -> Tensor:
        """Shape [B, T, D] in and out."""
        normed = self.norm1(x)
        return self._finish(x + self.gamma_1(self.self_attn(normed, normed)), self.norm2)


class CrossLayer(_Layer):
    """Pre-norm layer that attends to the other branch."""

    def __init__(self, dim: int, heads: int, hidden: int) -> None:
        super().__init__(dim, hidden)
        self.cross_attn = Attention(dim, heads)
        self.norm3 = nn.LayerNorm(dim)

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        """Shape [B, T, D] of `x` in and out; `other` is [B, M, D]."""
        attended = self.cross_attn(self.norm1(x), self.norm2(other))
        return self._finish(x + self.gamma_1(attended), self.norm3)


class CrossTransformer(nn.Module):
    """Layers 0, 2, 4 attend within each branch, layers 1 and 3 to the other branch."""

    def __init__(self, dim: int, heads: int, layers: int, hidden: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(dim)
        self.norm_in_t = nn.LayerNorm(dim)
        self.layers = nn.ModuleList(self._layer(index, dim, heads, hidden) for index in range(layers))
        self.layers_t = nn.ModuleList(self._layer(index, dim, heads, hidden) for index in range(layers))

    @staticmethod
    def _layer(index: int, dim: int, heads: int, hidden: int) -> nn.Module:
        return CrossLayer(dim, heads, hidden) if index % 2 else SelfLayer(dim, heads, hidden)

    def forward(self, x: Tensor, xt: Tensor) -> tuple[Tensor, Tensor]:
        """Spectral [B, D, F, N] and temporal [B, D, T] tokens in and out."""
        dim, bins, frames = (int(size) for size in x.shape[1:])
        steps = int(xt.shape[2])
        # The spectral tokens stand in the order of time, the frequencies of one frame together.
        x = self.norm_in(x.permute(0, 3, 2, 1))
        xt = self.norm_in_t(xt.transpose(1, 2))
        x = x + _constant(sinusoid_2d(count=frames, dim=dim, half=0), x)[:, None]
        x = x + _constant(sinusoid_2d(count=bins, dim=dim, half=1), x)
        x = x.reshape(-1, frames * bins, dim)
        xt = xt + _constant(sinusoid_1d(length=steps, dim=dim), xt)
        for index, (layer, layer_t) in enumerate(zip(self.layers, self.layers_t, strict=True)):
            x, xt = (layer(x, xt), layer_t(xt, x)) if index % 2 else (layer(x), layer_t(xt))
        x = x.reshape(-1, frames, bins, dim).permute(0, 3, 2, 1)
        return x, xt.transpose(1, 2)


def _constant(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]], like: Tensor) -> Tensor:
    return torch.from_numpy(values).to(like)
