"""DyNet in PyTorch, written from the paper's equations with the published parameter names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from peers.blocks import Block
from peers.promptir import PromptIR


class DyNet(PromptIR):
    """The parts that the forward uses; images of a multiple of 8."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__(config)
        d, heads, expansion = config["dim"], config["heads"], config["ffn_expansion_factor"]
        self.num_blocks = config["num_blocks"]
        self.encoder_level1 = Block(d, heads[0], expansion)
        self.encoder_level2 = Block(2 * d, heads[1], expansion)
        self.encoder_level3 = Block(4 * d, heads[2], expansion)
        self.latent = Block(8 * d, heads[3], expansion)
        self.decoder_level3 = Block(4 * d, heads[2], expansion)
        self.decoder_level2 = Block(2 * d, heads[1], expansion)
        self.decoder_level1 = Block(2 * d, heads[0], expansion)

    def forward(self, image: Tensor) -> Tensor:
        e1 = self.repeat(0, self.encoder_level1, self.patch_embed.proj(image))
        e2 = self.repeat(1, self.encoder_level2, self.down1_2(e1))
        e3 = self.repeat(2, self.encoder_level3, self.down2_3(e2))
        x = self.repeat(3, self.latent, self.down3_4(e3))
        x = self.reduce_noise_level3(self.noise_level3(torch.cat((x, self.prompt3(x)), 1)))
        e3 = self.reduce_noise_level2(self.noise_level2(torch.cat((e3, self.prompt2(e3)), 1)))
        x = self.reduce_chan_level3(torch.cat((self.up4_3(x), e3), 1))
        x = self.repeat(2, self.decoder_level3, x)
        e2 = self.reduce_noise_level1(self.noise_level1(torch.cat((e2, self.prompt1(e2)), 1)))
        x = self.reduce_chan_level2(torch.cat((self.up3_2(x), e2), 1))
        x = self.repeat(1, self.decoder_level2, x)
        x = self.repeat(0, self.decoder_level1, torch.cat((self.up2_1(x), e1), 1))
        result: Tensor = self.output(self.refinement(x)) + image
        return result

    def repeat(self, i: int, block: Block, x: Tensor) -> Tensor:
        for _ in range(self.num_blocks[i]):
            x = block(x)
        return x
