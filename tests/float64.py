"""Networks in float64, from their papers' equations: what the core is held against."""

import math

import numpy as np

ERF = np.vectorize(math.erf)
LAYER_NORM_EPSILON = 1e-5


def restormer(state, config, image):
    """What a network of these parameters and sizes makes of an image [3, h, w]."""
    at, (n1, n2, n3, n4) = float64(state), config["num_blocks"]

    e1 = level(at, "encoder_level1", n1, conv(at, "patch_embed.proj", image))
    e2 = level(at, "encoder_level2", n2, down(at, "down1_2", e1))
    e3 = level(at, "encoder_level3", n3, down(at, "down2_3", e2))
    x = up(at, "up4_3", level(at, "latent", n4, down(at, "down3_4", e3)), e3)
    x = level(at, "decoder_level3", n3, conv(at, "reduce_chan_level3", x))
    x = up(at, "up3_2", x, e2)
    x = level(at, "decoder_level2", n2, conv(at, "reduce_chan_level2", x))
    x = level(at, "decoder_level1", n1, up(at, "up2_1", x, e1))
    x = level(at, "refinement", config["num_refinement_blocks"], x)
    return conv(at, "output", x) + image


def dynet(state, config, image):
    """The same of a DyNet."""
    at, (n1, n2, n3, n4) = float64(state), config["num_blocks"]

    def repeated(name, times, x):
        for _ in range(times):
            x = block(at, f"{name}.", x)
        return x

    def prompted(i, x):
        x = np.concatenate([x, prompt(at, f"prompt{i}", x)])
        return conv(at, f"reduce_noise_level{i}", block(at, f"noise_level{i}.", x))

    e1 = repeated("encoder_level1", n1, conv(at, "patch_embed.proj", image))
    e2 = repeated("encoder_level2", n2, down(at, "down1_2", e1))
    e3 = repeated("encoder_level3", n3, down(at, "down2_3", e2))
    x = prompted(3, repeated("latent", n4, down(at, "down3_4", e3)))
    x = conv(at, "reduce_chan_level3", up(at, "up4_3", x, prompted(2, e3)))
    x = repeated("decoder_level3", n3, x)
    x = conv(at, "reduce_chan_level2", up(at, "up3_2", x, prompted(1, e2)))
    x = repeated("decoder_level2", n2, x)
    x = repeated("decoder_level1", n1, up(at, "up2_1", x, e1))
    x = level(at, "refinement", config["num_refinement_blocks"], x)
    return conv(at, "output", x) + image


def symunet(state, config, image):
    """The same of a SymUNet."""
    at, (*depths, middle) = float64(state), config["num_blocks"]
    x, skips = conv(at, "intro", image), []
    for i, depth in enumerate(depths):
        x = level(at, f"encoders.{i}", depth, x)
        skips.append(x)
        x = conv(at, f"downs.{i}", x)[:, ::2, ::2]  # windows that do not overlap
    x = level(at, "middle_blks", middle, x)
    for i, skip in enumerate(reversed(skips)):
        x = shuffle(conv(at, f"ups.{i}.0", x)) + skip
        x = level(at, f"decoders.{i}", depths[-1 - i], x)
    return conv(at, "ending", x) + image


def float64(state):
    return {name: values.astype(np.float64) for name, values in state.items()}


def level(at, name, depth, x):
    for index in range(depth):
        x = block(at, f"{name}.{index}.", x)
    return x


def prompt(at, name, x):
    """conv3×3 of Σ wᵢ·Pᵢ with w = softmax(Linear(mean of x)): PromptIR, equations 2 and 3."""
    logits = at[f"{name}.linear_layer.weight"] @ x.mean(axis=(1, 2))
    weights = np.exp(logits + at[f"{name}.linear_layer.bias"])
    mixed = np.tensordot(weights / weights.sum(), at[f"{name}.prompt_param"][0], axes=1)
    _, height, width = x.shape
    return conv(at, f"{name}.conv3x3", resized(resized(mixed, height, 1), width, 2))


def resized(x, size, axis):
    """Along an axis, linearly between pixels' centres; beyond the outer ones as at them."""
    length = x.shape[axis]
    at = np.clip((np.arange(size) + 0.5) * length / size - 0.5, 0, length - 1)
    before = np.floor(at).astype(int)
    after = np.minimum(before + 1, length - 1)
    share = np.moveaxis(np.expand_dims(at - before, (0, 1)), 2, axis)
    return x.take(before, axis) * (1 - share) + x.take(after, axis) * share


def down(at, name, x):
    return unshuffle(conv(at, f"{name}.body.0", x))


def up(at, name, x, skip):
    return np.concatenate([shuffle(conv(at, f"{name}.body.0", x)), skip])


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
