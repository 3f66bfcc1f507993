"""PromptIR in PyTorch, written from the papers' equations with the published parameter names."""

from __future__ import annotations

from typing import Any

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


class Prompt(nn.Module):
    def __init__(self, dim: int, length: int, features: int, size: int) -> None:
        super().__init__()
        self.prompt_param = nn.Parameter(torch.rand(1, length, dim, size, size))
        self.linear_layer = nn.Linear(features, length)
        self.conv3x3 = conv3x3(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        weights = self.linear_layer(x.mean(dim=(-2, -1))).softmax(dim=1)
        mixed = (weights[:, :, None, None, None] * self.prompt_param).sum(dim=1)
        resized = functional.interpolate(mixed, x.shape[-2:], mode="bilinear", align_corners=False)
        return self.conv3x3(resized)


class Resample(nn.Module):
    def __init__(self, inputs: int, outputs: int, shuffle: nn.Module) -> None:
        super().__init__()
        self.body = nn.Sequential(conv3x3(inputs, outputs), shuffle)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.body(x)
        return result


class PromptIR(nn.Module):
    """The parts that the forward uses; images of a multiple of 8."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        d, heads, blocks = config["dim"], config["heads"], config["num_blocks"]
        expansion = config["ffn_expansion_factor"]
        p, length, sizes = config["prompt_dims"], config["prompt_len"], config["prompt_sizes"]
        d1, d2, d3, d4 = d, 2 * d, 4 * d, 8 * d

        def level(count: int, dim: int, heads: int) -> nn.Sequential:
            return nn.Sequential(*(Block(dim, heads, expansion) for _ in range(count)))

        self.patch_embed = nn.Module()
        self.patch_embed.proj = conv3x3(3, d1)
        self.prompt1 = Prompt(p[0], length, d2, sizes[0])
        self.prompt2 = Prompt(p[1], length, d3, sizes[1])
        self.prompt3 = Prompt(p[2], length, d4, sizes[2])
        self.encoder_level1 = level(blocks[0], d1, heads[0])
        self.encoder_level2 = level(blocks[1], d2, heads[1])
        self.encoder_level3 = level(blocks[2], d3, heads[2])
        self.latent = level(blocks[3], d4, heads[3])
        self.down1_2 = Resample(d1, d1 // 2, nn.PixelUnshuffle(2))
        self.down2_3 = Resample(d2, d2 // 2, nn.PixelUnshuffle(2))
        self.down3_4 = Resample(d3, d3 // 2, nn.PixelUnshuffle(2))
        self.up4_3 = Resample(d3, 2 * d3, nn.PixelShuffle(2))
        self.up3_2 = Resample(d3, 2 * d3, nn.PixelShuffle(2))
        self.up2_1 = Resample(d2, 2 * d2, nn.PixelShuffle(2))
        self.noise_level3 = Block(d4 + p[2], heads[2], expansion)
        self.noise_level2 = Block(d3 + p[1], heads[2], expansion)
        self.noise_level1 = Block(d2 + p[0], heads[2], expansion)
        self.reduce_noise_level3 = pointwise(d4 + p[2], d3)
        self.reduce_noise_level2 = pointwise(d3 + p[1], d3)
        self.reduce_noise_level1 = pointwise(d2 + p[0], d2)
        self.reduce_chan_level3 = pointwise(d2 + d3, d3)
        self.reduce_chan_level2 = pointwise(2 * d2, d2)
        self.decoder_level3 = level(blocks[2], d3, heads[2])
        self.decoder_level2 = level(blocks[1], d2, heads[1])
        self.decoder_level1 = level(blocks[0], d2, heads[0])
        self.refinement = level(config["num_refinement_blocks"], d2, heads[0])
        self.output = conv3x3(d2, 3)

    def forward(self, image: Tensor) -> Tensor:
        e1 = self.encoder_level1(self.patch_embed.proj(image))
        e2 = self.encoder_level2(self.down1_2(e1))
        e3 = self.encoder_level3(self.down2_3(e2))
        x = self.latent(self.down3_4(e3))
        x = self.reduce_noise_level3(self.noise_level3(torch.cat((x, self.prompt3(x)), 1)))
        x = self.reduce_chan_level3(torch.cat((self.up4_3(x), e3), 1))
        x = self.decoder_level3(x)
        x = self.reduce_noise_level2(self.noise_level2(torch.cat((x, self.prompt2(x)), 1)))
        x = self.reduce_chan_level2(torch.cat((self.up3_2(x), e2), 1))
        x = self.decoder_level2(x)
        x = self.reduce_noise_level1(self.noise_level1(torch.cat((x, self.prompt1(x)), 1)))
        x = self.decoder_level1(torch.cat((self.up2_1(x), e1), 1))
        result: Tensor = self.output(self.refinement(x)) + image
        return result
