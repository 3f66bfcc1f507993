"""Restormer in float64, from the paper's equations: what the core is held against."""

import math

import numpy as np

ERF = np.vectorize(math.erf)
LAYER_NORM_EPSILON = 1e-5


def restormer(state, image):
    """What a network of these parameters makes of an image [3, h, w]."""
    at = {name: values.astype(np.float64) for name, values in state.items()}

    def level(name, x):
        count = {key.split(".")[1] for key in at if key.startswith(f"{name}.")}
        for index in range(len(count)):
            x = block(at, f"{name}.{index}.", x)
        return x

    def down(name, x):  # channels of a pixel: those of one channel's four together
        x = conv(at[f"{name}.body.0.weight"], x)
        c, h, w = x.shape
        return (
            x.reshape(c, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3).reshape(-1, h // 2, w // 2)
        )

    def up(name, x, skip):
        x = conv(at[f"{name}.body.0.weight"], x)
        c, h, w = x.shape
        x = x.reshape(c // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(-1, 2 * h, 2 * w)
        return np.concatenate([x, skip])

    e1 = level("encoder_level1", conv(at["patch_embed.proj.weight"], image))
    e2 = level("encoder_level2", down("down1_2", e1))
    e3 = level("encoder_level3", down("down2_3", e2))
    x = up("up4_3", level("latent", down("down3_4", e3)), e3)
    x = level("decoder_level3", conv(at["reduce_chan_level3.weight"], x))
    x = up("up3_2", x, e2)
    x = level("decoder_level2", conv(at["reduce_chan_level2.weight"], x))
    x = level("refinement", level("decoder_level1", up("up2_1", x, e1)))
    return conv(at["output.weight"], x) + image


def block(at, place, x):
    """x + MDTA(LN(x)), then x + GDFN(LN(x)): equations 1 and 2."""
    attn, ffn = f"{place}attn.", f"{place}ffn."
    temperature = at[f"{attn}temperature"]
    y = conv(at[f"{attn}qkv.weight"], layer_norm(at, f"{place}norm1.body.", x))
    y = depthwise(at[f"{attn}qkv_dwconv.weight"], y)
    q, k, v = y.reshape(3, len(temperature), -1, y[0].size)  # [heads, c, h·w]
    q, k = (each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (q, k))
    weights = np.exp(q @ k.transpose(0, 2, 1) * temperature)
    weights /= weights.sum(axis=-1, keepdims=True)
    x = x + conv(at[f"{attn}project_out.weight"], (weights @ v).reshape(x.shape))
    y = conv(at[f"{ffn}project_in.weight"], layer_norm(at, f"{place}norm2.body.", x))
    a, b = np.split(depthwise(at[f"{ffn}dwconv.weight"], y), 2)
    gated = a * (1 + ERF(a / math.sqrt(2))) / 2 * b
    return x + conv(at[f"{ffn}project_out.weight"], gated)


def layer_norm(at, place, x):
    """γ·(x - μ)/√(σ² + ε) + β, or without β γ·x/√(σ² + ε)."""
    scale = at[f"{place}weight"][:, None, None] / np.sqrt(x.var(axis=0) + LAYER_NORM_EPSILON)
    if f"{place}bias" not in at:
        return x * scale
    return (x - x.mean(axis=0)) * scale + at[f"{place}bias"][:, None, None]


def conv(weight, x):
    """1×1 or 3×3, padded to the same size."""
    return np.einsum("oikl,ihwkl->ohw", weight, windows(x, weight.shape[-1]))


def depthwise(weight, x):
    return np.einsum("ckl,chwkl->chw", weight[:, 0], windows(x, weight.shape[-1]))


def windows(x, size):
    padded = np.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2))
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
