"""docs/format.md is enough to read our files: numpy and json, nothing of ours."""

import json
import zlib

import numpy as np
import pytest

import mirl
from lottery_run import run

TYPES = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),  # numpy has no type for it
    "U8": np.dtype("u1"),
}

UNUSED = ("chnl_reduce", "reduce_noise_channel")


def crc32(data):
    return f"{zlib.crc32(data):08x}"


def read(path):
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    about = header.pop("__metadata__")
    assert about.keys() == {"mirl"}
    metadata = json.loads(about["mirl"])
    assert all(isinstance(value, str) for value in metadata.values())
    entries = sorted(item for item in metadata.items() if item[0] != "header_crc32")
    told = [text for entry in entries for text in entry] + sorted(header)
    assert metadata["header_crc32"] == crc32("".join(f"{text}\0" for text in told).encode())
    assert metadata["crc32"] == crc32(data[end:])
    tensors = {}
    for name, entry in header.items():
        start, stop = (end + offset for offset in entry["data_offsets"])
        values = np.frombuffer(data[start:stop], TYPES[entry["dtype"]])
        tensors[name] = values.reshape(entry["shape"])
    return metadata, tensors


def mask_of(tensors, name, shape):
    bits = np.unpackbits(tensors[f"mask.{name}"], bitorder="little").astype(bool)
    count = np.prod(shape)
    assert not bits[count:].any()
    return bits[:count].reshape(shape)


def coded_mask_of(tensors, name, shape):
    kind, *code = tensors[f"mask.{name}"].tolist()
    bits = list(np.unpackbits(np.array(code, np.uint8), bitorder="little"))
    mask = np.zeros(np.prod(shape), bool)
    if kind == 255:
        mask[:] = bits[: mask.size]
        return mask.reshape(shape)
    place, at = 0, 0
    for _ in range(tensors[name].size):
        one = bits.index(1, at)
        low = sum(int(bit) << i for i, bit in enumerate(bits[one + 1 : one + 1 + kind]))
        place += ((one - at) << kind) + low
        mask[place] = True
        place, at = place + 1, one + 1 + kind
    assert len(bits) - at < 8
    assert not any(bits[at:])
    return mask.reshape(shape)


def block(width, heads, factor):
    hidden = int(width * factor)
    return {
        **{f"norm{i}.body.{kind}": (width,) for i in (1, 2) for kind in ("weight", "bias")},
        "attn.temperature": (heads, 1, 1),
        "attn.qkv.weight": (3 * width, width, 1, 1),
        "attn.qkv_dwconv.weight": (3 * width, 1, 3, 3),
        "attn.project_out.weight": (width, width, 1, 1),
        "ffn.project_in.weight": (2 * hidden, width, 1, 1),
        "ffn.dwconv.weight": (2 * hidden, 1, 3, 3),
        "ffn.project_out.weight": (width, hidden, 1, 1),
    }


def shapes(config):
    """The tables of shapes, in Python."""
    d1, d2, d3, d4 = (config["dim"] << level for level in range(4))
    p1, p2, p3 = config["prompt_dims"]
    h1, h2, h3, h4 = config["heads"]
    n1, n2, n3, n4 = config["num_blocks"]
    length, fifths = config["prompt_len"], 4 * p3 // 5
    all_shapes = {
        "patch_embed.proj.weight": (d1, 3, 3, 3),
        "chnl_reduce1.weight": (p1, p1, 1, 1),
        "chnl_reduce2.weight": (p2, p2, 1, 1),
        "chnl_reduce3.weight": (fifths, p3, 1, 1),
        "reduce_noise_channel_1.weight": (d1, d1 + p1, 1, 1),
        "reduce_noise_channel_2.weight": (d2, d2 + p2, 1, 1),
        "reduce_noise_channel_3.weight": (d3, d3 + fifths, 1, 1),
        "down1_2.body.0.weight": (d1 // 2, d1, 3, 3),
        "down2_3.body.0.weight": (d2 // 2, d2, 3, 3),
        "down3_4.body.0.weight": (d3 // 2, d3, 3, 3),
        "up4_3.body.0.weight": (2 * d3, d3, 3, 3),
        "up3_2.body.0.weight": (2 * d3, d3, 3, 3),
        "up2_1.body.0.weight": (2 * d2, d2, 3, 3),
        "reduce_chan_level3.weight": (d3, d2 + d3, 1, 1),
        "reduce_chan_level2.weight": (d2, 2 * d2, 1, 1),
        "reduce_noise_level3.weight": (d3, d4 + p3, 1, 1),
        "reduce_noise_level2.weight": (d3, d3 + p2, 1, 1),
        "reduce_noise_level1.weight": (d2, d2 + p1, 1, 1),
        "output.weight": (3, d2, 3, 3),
    }
    sizes = zip((p1, p2, p3), config["prompt_sizes"], (d2, d3, d4), strict=True)
    for i, (prompt, size, features) in enumerate(sizes, 1):
        all_shapes[f"prompt{i}.prompt_param"] = (1, length, prompt, size, size)
        all_shapes[f"prompt{i}.linear_layer.weight"] = (length, features)
        all_shapes[f"prompt{i}.linear_layer.bias"] = (length,)
        all_shapes[f"prompt{i}.conv3x3.weight"] = (prompt, prompt, 3, 3)
    stacks = {
        "encoder_level1": (n1, d1, h1),
        "encoder_level2": (n2, d2, h2),
        "encoder_level3": (n3, d3, h3),
        "latent": (n4, d4, h4),
        "decoder_level3": (n3, d3, h3),
        "decoder_level2": (n2, d2, h2),
        "decoder_level1": (n1, d2, h1),
        "refinement": (config["num_refinement_blocks"], d2, h1),
    }
    blocks = {
        f"{stack}.{i}": (width, heads)
        for stack, (count, width, heads) in stacks.items()
        for i in range(count)
    }
    blocks |= {
        f"noise_level{i}": (width, h3) for i, width in ((3, d4 + p3), (2, d3 + p2), (1, d2 + p1))
    }
    for place, (width, heads) in blocks.items():
        for name, shape in block(width, heads, config["ffn_expansion_factor"]).items():
            all_shapes[f"{place}.{name}"] = shape
    return all_shapes


def stored(values, dtype):
    """The values as a file has them."""
    if dtype != "bfloat16":
        return values.astype(dtype)
    bits = values.view(np.uint32)
    # To the nearest of the numbers with the lower half of the bits zero, a tie to the even one.
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def test_shapes_follow_from_the_sizes(small):
    for model in (small, mirl.PromptIR()):
        assert shapes(model.config) == model.shapes


def test_dense_files(small, tmp_path):
    mirl.prune(small, 0.5)
    state, masks = small.state_dict(), small.mask
    assert 0 < len(masks) < len(state)
    small.save(tmp_path / "dense.safetensors", {"note": "ours"})
    metadata, tensors = read(tmp_path / "dense.safetensors")
    config = json.loads(metadata["config"])
    assert metadata["format"] == "mirl"
    assert (metadata["version"], metadata["network"]) == ("1", "PromptIR")
    assert (config, metadata["note"]) == (small.config, "ours")
    assert tensors.keys() == state.keys() | {f"mask.{name}" for name in masks}
    for name, shape in shapes(config).items():
        if name in masks:
            assert np.array_equal(mask_of(tensors, name, shape), masks[name])
        assert tensors[name].tobytes() == state[name].tobytes()


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize("density", [0.9, 0.5, 0.05])
def test_packed_files(small, tmp_path, density, dtype):
    mirl.prune(small, 1 - density)
    state, masks = small.state_dict(), small.mask
    small.save(tmp_path / "packed.mirl.safetensors", dtype=dtype)
    metadata, tensors = read(tmp_path / "packed.mirl.safetensors")
    config = json.loads(metadata["config"])
    assert (metadata["format"], metadata["version"]) == ("mirl-packed", "2")
    assert metadata["dtype"] == dtype
    assert ("rounding" in metadata) == (dtype != "float32")
    unused = {name for name in state if name.startswith(UNUSED)}
    used = state.keys() - unused
    assert tensors.keys() == used | {f"mask.{name}" for name in masks if name in used}
    for name, shape in shapes(config).items():
        if name in used:
            values = tensors[name]
            if name in masks:
                mask = coded_mask_of(tensors, name, shape)
                assert np.array_equal(mask, masks[name])
                survivors, values = values, np.zeros(shape, values.dtype)
                values[mask] = survivors
            assert values.tobytes() == stored(state[name], dtype).tobytes()


def test_masks_come_in_both_codes(small, tmp_path):
    path = tmp_path / "packed.mirl.safetensors"
    mirl.prune(small, 0.5)
    small.save(path)
    _, tensors = read(path)
    codes = {values[0] for name, values in tensors.items() if name.startswith("mask.")}
    assert 255 in codes
    assert min(codes) <= 24


@pytest.mark.parametrize("name", ["dense.safetensors", "packed.mirl.safetensors"])
def test_metadata(small, tmp_path, name):
    mirl.prune(small, 0.5, exclude=())
    small.save(tmp_path / name)
    metadata, tensors = read(tmp_path / name)
    assert (metadata["mirl"], metadata["seed"]) == (mirl.__version__, "1")
    masks = small.mask
    # Of a packed file the tensors that the forward never uses are pruned whole, unless they are in it.
    alive = {
        name: int(masks[name].sum()) if name in masks else np.prod(shape)
        for name, shape in small.shapes.items()
        if name in tensors
    }
    total = sum(np.prod(shape) for shape in small.shapes.values())
    density = json.loads(metadata["density"])
    assert density["all"] == pytest.approx(sum(alive.values()) / total)
    prunable = [name for name in small.shapes if "weight" in name and not name.startswith(UNUSED)]
    share = sum(alive.get(name, 0) for name in prunable)
    share /= sum(np.prod(small.shapes[name]) for name in prunable)
    assert density["prunable"] == pytest.approx(share)


def test_rounding(small, tmp_path):
    small.save(tmp_path / "half.mirl.safetensors", dtype="float16")
    rounding = json.loads(read(tmp_path / "half.mirl.safetensors")[0]["rounding"])
    assert rounding.keys() == {"psnr_float32", "psnr", "cost", "between"}
    assert rounding["cost"] == pytest.approx(rounding["psnr_float32"] - rounding["psnr"])
    assert rounding["between"] > rounding["psnr"]


def test_files_of_a_run(tmp_path):
    """Networks tell the run that they are of, as its recipe does."""
    run(tmp_path)
    recipe = json.loads((tmp_path / "recipe.json").read_text())
    del recipe["initial"], recipe["recipe"]["rounds"]
    for number in range(3):
        metadata, _ = read(tmp_path / f"round_{number:02}.mirl.safetensors")
        assert metadata["round"] == str(number)
        assert json.loads(metadata["run"]) == recipe


def test_checkpoint(small, batch, tmp_path):
    mirl.prune(small, 0.5)
    trainer = mirl.Trainer(small)
    for _ in range(3):
        trainer.step(*batch)
    trainer.save_checkpoint(tmp_path / "checkpoint.safetensors", "here")
    metadata, tensors = read(tmp_path / "checkpoint.safetensors")
    assert (metadata["optimizer_steps"], metadata["progress"]) == ("3", "here")
    for name, values in small.state_dict().items():
        assert np.array_equal(tensors[name], values)
        for moment in ("exp_avg", "exp_avg_sq"):
            assert tensors[f"{moment}.{name}"].shape == values.shape
            if name in small.mask:
                assert not tensors[f"{moment}.{name}"][~small.mask[name]].any()
