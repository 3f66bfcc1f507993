"""Restormer in PyTorch, written from the paper's equations with the published parameter names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from peers.blocks import Resample, conv3x3, level, pointwise


class Restormer(nn.Module):
    """Images of a multiple of 8."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        d, heads, blocks = config["dim"], config["heads"], config["num_blocks"]
        expansion = config["ffn_expansion_factor"]
        d1, d2, d3, d4 = d, 2 * d, 4 * d, 8 * d

        self.patch_embed = nn.Module()
        self.patch_embed.proj = conv3x3(3, d1)
        self.encoder_level1 = level(blocks[0], d1, heads[0], expansion)
        self.encoder_level2 = level(blocks[1], d2, heads[1], expansion)
        self.encoder_level3 = level(blocks[2], d3, heads[2], expansion)
        self.latent = level(blocks[3], d4, heads[3], expansion)
        self.down1_2 = Resample(d1, d1 // 2, nn.PixelUnshuffle(2))
        self.down2_3 = Resample(d2, d2 // 2, nn.PixelUnshuffle(2))
        self.down3_4 = Resample(d3, d3 // 2, nn.PixelUnshuffle(2))
        self.up4_3 = Resample(d4, 2 * d4, nn.PixelShuffle(2))
        self.up3_2 = Resample(d3, 2 * d3, nn.PixelShuffle(2))
        self.up2_1 = Resample(d2, 2 * d2, nn.PixelShuffle(2))
        self.reduce_chan_level3 = pointwise(2 * d3, d3)
        self.reduce_chan_level2 = pointwise(2 * d2, d2)
        self.decoder_level3 = level(blocks[2], d3, heads[2], expansion)
        self.decoder_level2 = level(blocks[1], d2, heads[1], expansion)
        self.decoder_level1 = level(blocks[0], d2, heads[0], expansion)
        self.refinement = level(config["num_refinement_blocks"], d2, heads[0], expansion)
        self.output = conv3x3(d2, 3)

    def encode(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        e1 = self.encoder_level1(self.patch_embed.proj(image))
        e2 = self.encoder_level2(self.down1_2(e1))
        e3 = self.encoder_level3(self.down2_3(e2))
        return e1, e2, e3, self.latent(self.down3_4(e3))

    def forward(self, image: Tensor) -> Tensor:
        e1, e2, e3, x = self.encode(image)
        x = self.reduce_chan_level3(torch.cat((self.up4_3(x), e3), 1))
        x = self.decoder_level3(x)
        x = self.reduce_chan_level2(torch.cat((self.up3_2(x), e2), 1))
        x = self.decoder_level2(x)
        x = self.decoder_level1(torch.cat((self.up2_1(x), e1), 1))
        result: Tensor = self.output(self.refinement(x)) + image
        return result
