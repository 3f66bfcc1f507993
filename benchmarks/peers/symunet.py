"""SymUNet in PyTorch, written from the paper with the published parameter names."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from peers.blocks import level, pointwise


class SymUNet(nn.Module):
    """Images of a multiple of 32."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        dims = [config["dim"] << i for i in range(4)]

        def blocks(i: int) -> nn.Sequential:
            depth, heads = config["num_blocks"][i], config["heads"][i]
            return level(depth, dims[i], heads, config["ffn_expansion_factor"])

        def up(dim: int) -> nn.Sequential:
            return nn.Sequential(pointwise(dim, 2 * dim), nn.PixelShuffle(2))

        self.intro = nn.Conv2d(3, dims[0], 3, padding=1)
        self.ending = nn.Conv2d(dims[0], 3, 3, padding=1)
        self.encoders = nn.ModuleList(blocks(i) for i in (0, 1, 2))
        self.decoders = nn.ModuleList(blocks(i) for i in (2, 1, 0))
        self.ups = nn.ModuleList(up(dims[i]) for i in (3, 2, 1))
        self.downs = nn.ModuleList(nn.Conv2d(dims[i], dims[i + 1], 2, stride=2) for i in (0, 1, 2))
        self.middle_blks = blocks(3)

    def forward(self, image: Tensor) -> Tensor:
        x, skips = self.intro(image), []
        for encoder, down in zip(self.encoders, self.downs, strict=True):
            skips.append(encoder(x))
            x = down(skips[-1])
        x = self.middle_blks(x)
        for up, decoder, skip in zip(self.ups, self.decoders, reversed(skips), strict=True):
            x = decoder(up(x) + skip)
        result: Tensor = self.ending(x) + image
        return result
