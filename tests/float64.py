"""Networks in float64, from their papers' equations: what the core is held against."""

import math

import numpy as np

ERF = np.vectorize(math.erf)
LAYER_NORM_EPSILON = 1e-5


def restormer(state, image):
    """What a network of these parameters makes of an image [3, h, w]."""
    at = float64(state)

    def down(name, x):
        return unshuffle(conv(at, f"{name}.body.0", x))

    def up(name, x, skip):
        return np.concatenate([shuffle(conv(at, f"{name}.body.0", x)), skip])

    e1 = level(at, "encoder_level1", conv(at, "patch_embed.proj", image))
    e2 = level(at, "encoder_level2", down("down1_2", e1))
    e3 = level(at, "encoder_level3", down("down2_3", e2))
    x = up("up4_3", level(at, "latent", down("down3_4", e3)), e3)
    x = level(at, "decoder_level3", conv(at, "reduce_chan_level3", x))
    x = up("up3_2", x, e2)
    x = level(at, "decoder_level2", conv(at, "reduce_chan_level2", x))
    x = level(at, "refinement", level(at, "decoder_level1", up("up2_1", x, e1)))
    return conv(at, "output", x) + image


def symunet(state, image):
    """The same of a SymUNet."""
    at = float64(state)
    x, skips = conv(at, "intro", image), []
    for i in range(3):
        x = level(at, f"encoders.{i}", x)
        skips.append(x)
        x = conv(at, f"downs.{i}", x)[:, ::2, ::2]  # windows that do not overlap
    x = level(at, "middle_blks", x)
    for i, skip in enumerate(reversed(skips)):
        x = level(at, f"decoders.{i}", shuffle(conv(at, f"ups.{i}.0", x)) + skip)
    return conv(at, "ending", x) + image


def float64(state):
    return {name: values.astype(np.float64) for name, values in state.items()}


def level(at, name, x):
    """All blocks that there are."""
    count = {key.removeprefix(f"{name}.").split(".")[0] for key in at if key.startswith(f"{name}.")}
    for index in range(len(count)):
        x = block(at, f"{name}.{index}.", x)
    return x


def unshuffle(x):
    """Channels of a pixel: those of one channel's four together."""
    c, h, w = x.shape
    return x.reshape(c, h // 2, 2, w // 2, 2).transpose(0, 2, 4, 1, 3).reshape(-1, h // 2, w // 2)


def shuffle(x):
    c, h, w = x.shape
    return x.reshape(c // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(-1, 2 * h, 2 * w)


def block(at, place, x):
    """x + MDTA(LN(x)), then x + GDFN(LN(x)): equations 1 and 2."""
    attn, ffn = f"{place}attn.", f"{place}ffn."
    temperature = at[f"{attn}temperature"]
    y = conv(at, f"{attn}qkv", layer_norm(at, f"{place}norm1.body.", x))
    y = depthwise(at[f"{attn}qkv_dwconv.weight"], y)
    q, k, v = y.reshape(3, len(temperature), -1, y[0].size)  # [heads, c, h·w]
    q, k = (each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (q, k))
    weights = np.exp(q @ k.transpose(0, 2, 1) * temperature)
    weights /= weights.sum(axis=-1, keepdims=True)
    x = x + conv(at, f"{attn}project_out", (weights @ v).reshape(x.shape))
    y = conv(at, f"{ffn}project_in", layer_norm(at, f"{place}norm2.body.", x))
    a, b = np.split(depthwise(at[f"{ffn}dwconv.weight"], y), 2)
    gated = a * (1 + ERF(a / math.sqrt(2))) / 2 * b
    return x + conv(at, f"{ffn}project_out", gated)


def layer_norm(at, place, x):
    """γ·(x - μ)/√(σ² + ε) + β, or without β γ·x/√(σ² + ε)."""
    scale = at[f"{place}weight"][:, None, None] / np.sqrt(x.var(axis=0) + LAYER_NORM_EPSILON)
    if f"{place}bias" not in at:
        return x * scale
    return (x - x.mean(axis=0)) * scale + at[f"{place}bias"][:, None, None]


def conv(at, place, x):
    """Of 1×1, 2×2 or 3×3, of stride 1; the bias where there is one."""
    weight = at[f"{place}.weight"]
    y = np.einsum("oikl,ihwkl->ohw", weight, windows(x, weight.shape[-1]))
    return y + at[f"{place}.bias"][:, None, None] if f"{place}.bias" in at else y


def depthwise(weight, x):
    return np.einsum("ckl,chwkl->chw", weight[:, 0], windows(x, weight.shape[-1]))


def windows(x, size):
    """Those around each pixel; of 2×2 those that begin with it, as far as there are any."""
    around = ((size - 1) // 2,) * 2
    padded = np.pad(x, ((0, 0), around, around))
    return np.lib.stride_tricks.sliding_window_view(padded, (size, size), axis=(1, 2))
