"""What the networks are made of, in PyTorch, written from the papers' equations."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class LayerNorm(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.body = nn.Module()
        self.body.weight = nn.Parameter(torch.ones(dim))
        self.body.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        rows = x.permute(0, 2, 3, 1)
        rows = functional.layer_norm(rows, rows.shape[-1:], self.body.weight, self.body.bias)
        return rows.permute(0, 3, 1, 2)


def pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=False)


def conv3x3(inputs: int, outputs: int, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, groups=groups)


class Attention(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(heads, 1, 1))
        self.qkv = pointwise(dim, 3 * dim)
        self.qkv_dwconv = conv3x3(3 * dim, 3 * dim, groups=3 * dim)
        self.project_out = pointwise(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        heads = self.temperature.shape[0]
        q, k, v = (
            part.reshape(n, heads, c // heads, h * w)
            for part in self.qkv_dwconv(self.qkv(x)).chunk(3, dim=1)
        )
        scores = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(-2, -1)
        weights = (scores * self.temperature).softmax(dim=-1)
        return self.project_out((weights @ v).reshape(n, c, h, w))


class FeedForward(nn.Module):
    def __init__(self, dim: int, expansion: float) -> None:
        super().__init__()
        hidden = int(dim * expansion)
        self.project_in = pointwise(dim, 2 * hidden)
        self.dwconv = conv3x3(2 * hidden, 2 * hidden, groups=2 * hidden)
        self.project_out = pointwise(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.dwconv(self.project_in(x)).chunk(2, dim=1)
        return self.project_out(functional.gelu(a) * b)


class Block(nn.Module):
    def __init__(self, dim: int, heads: int, expansion: float) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = LayerNorm(dim)
        self.ffn = FeedForward(dim, expansion)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.ffn(self.norm2(x))


class Resample(nn.Module):
    def __init__(self, inputs: int, outputs: int, shuffle: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(inputs, outputs), shuffle)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(x)
        return result


def level(count: int, dim: int, heads: int, expansion: float) -> nn.Sequential:
    return nn.Sequential(*(Block(dim, heads, expansion) for _ in range(count)))
