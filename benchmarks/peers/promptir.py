"""PromptIR in PyTorch, written from the papers' equations with the published parameter names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from peers.blocks import Block, Resample, conv3x3, pointwise
from peers.restormer import Restormer


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


class PromptIR(Restormer):
    """The parts that the forward uses; images of a multiple of 8."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        d, heads, expansion = config["dim"], config["heads"], config["ffn_expansion_factor"]
        p, length, sizes = config["prompt_dims"], config["prompt_len"], config["prompt_sizes"]
        d2, d3, d4 = 2 * d, 4 * d, 8 * d
        self.prompt1 = Prompt(p[0], length, d2, sizes[0])
        self.prompt2 = Prompt(p[1], length, d3, sizes[1])
        self.prompt3 = Prompt(p[2], length, d4, sizes[2])
        self.noise_level3 = Block(d4 + p[2], heads[2], expansion)
        self.noise_level2 = Block(d3 + p[1], heads[2], expansion)
        self.noise_level1 = Block(d2 + p[0], heads[2], expansion)
        self.reduce_noise_level3 = pointwise(d4 + p[2], d3)
        self.reduce_noise_level2 = pointwise(d3 + p[1], d3)
        self.reduce_noise_level1 = pointwise(d2 + p[0], d2)
        # The block on level 3's prompt reduces to the width of level 3, so the way up starts there.
        self.up4_3 = Resample(d3, 2 * d3, nn.PixelShuffle(2))
        self.reduce_chan_level3 = pointwise(d2 + d3, d3)

    def forward(self, image: Tensor) -> Tensor:
        e1, e2, e3, x = self.encode(image)
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
