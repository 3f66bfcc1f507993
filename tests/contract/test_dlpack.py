"""Tensors of other libraries go in and results come out by DLPack, without a copy on the way."""

import gc

import numpy as np
import pytest

import mirl
from mirl.arrays import as_array
from reference import SMALL
from same import assert_same_state

CUDA = 2
"""kDLCUDA of dlpack.h."""


class Exported:
    """What has nothing but DLPack: neither numpy's attributes nor its __array__."""

    def __init__(self, array, device=(1, 0)):
        self._array = array
        self._device = device

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._device


class Refused(Exported):
    def __dlpack__(self, **options):
        raise BufferError("it requires a gradient")


def address(array):
    return array.ctypes.data


@pytest.fixture
def exported(batch):
    return tuple(Exported(images) for images in batch)


def test_a_view_shares_memory(batch):
    images, _ = batch
    view = as_array(Exported(images), "images")
    assert address(view) == address(images)
    images[0, 0, 0, 0] = 0.125
    assert view[0, 0, 0, 0] == 0.125


@pytest.mark.parametrize("kind", [1, 3, 11, 13], ids=["CPU", "CUDAHost", "ROCMHost", "CUDAManaged"])
def test_whatever_the_processor_reads_is_viewed(batch, kind):
    assert address(as_array(Exported(batch[0], (kind, 0)), "images")) == address(batch[0])


def test_arrays_and_all_else_are_as_they_were(batch):
    for values in (batch[0], batch[0][:, :, ::2], [[1.0]], None):
        assert as_array(values, "images") is values


def test_a_network_is_made_of_what_exports_itself(small, batch):
    mirl.prune(small, 0.5)
    state = {name: Exported(values) for name, values in small.state_dict().items()}
    mask = {name: Exported(alive.view(np.uint8)) for name, alive in small.mask.items()}
    again = mirl.PromptIR.from_state_dict(state)
    np.testing.assert_array_equal(again(batch[0]), small(batch[0]))
    with pytest.raises(TypeError):
        mirl.PromptIR.from_state_dict(state, mask)


def test_a_network_takes_what_exports_itself(small, batch, exported):
    np.testing.assert_array_equal(small(exported[0]), small(batch[0]))
    gradients = small.gradients(*batch)
    assert_same_state(small.gradients(*exported), gradients)


def test_a_trainer_takes_what_exports_itself(batch, exported):
    models = [mirl.PromptIR(seed=1, **SMALL) for _ in range(2)]
    losses = [mirl.Trainer(models[0]).step(*batch), mirl.Trainer(models[1]).step(*exported)]
    assert losses[0] == losses[1]
    assert_same_state(models[0].state_dict(), models[1].state_dict())


def test_weights_and_masks_come_from_what_exports_itself(small, batch):
    mirl.prune(small, 0.5)
    other = mirl.PromptIR(seed=2, **SMALL)
    other.load_state_dict({name: Exported(values) for name, values in small.state_dict().items()})
    other.mask = {name: Exported(alive) for name, alive in small.mask.items()}
    np.testing.assert_array_equal(other(batch[0]), small(batch[0]))
    assert other.density() == small.density()
    with pytest.raises(TypeError, match=r"output\.weight: .*processor's memory"):
        other.load_state_dict({"output.weight": Exported(batch[0], (CUDA, 0))}, strict=False)


def test_images_to_restore_export_themselves(small, batch, exported):
    np.testing.assert_array_equal(mirl.restore(small, exported[0]), mirl.restore(small, batch[0]))
    photo = (batch[0][0].transpose(1, 2, 0) * 255).astype(np.uint8)
    restored = mirl.restore(small, Exported(photo))
    assert restored.dtype == np.uint8
    np.testing.assert_array_equal(restored, mirl.restore(small, photo))


def test_measures_take_what_exports_itself(small, batch, exported):
    assert mirl.psnr(*exported) == mirl.psnr(*batch)
    assert mirl.ssim(*exported) == mirl.ssim(*batch)
    rows = [mirl.evaluate(small, [pair], progress=False).rows for pair in (batch, exported)]
    assert rows[0] == rows[1]


def test_a_run_takes_what_exports_itself(batch, exported):
    settings = {"rounds": 1, "amount": 0.5, "criterion": "snip", "loggers": ()}
    found = [
        mirl.find_ticket(mirl.PromptIR(seed=1, **SMALL), [pair], **settings).model(batch[0])
        for pair in (batch, exported)
    ]
    np.testing.assert_array_equal(*found)


def test_read_only_arrays_go_in(small, batch):
    images, _ = batch
    expected = small(images)
    images.setflags(write=False)
    np.testing.assert_array_equal(small(images), expected)


def test_results_share_memory_with_what_takes_them(small, batch):
    loader = mirl.Loader.from_images(
        [np.full((32, 32, 3), 99, np.uint8)], batch_size=1, patch_size=16
    )
    degraded, clean = next(iter(loader))
    weights = small.state_dict()["patch_embed.proj.weight"]
    for result in (small(batch[0]), degraded, clean, weights):
        assert address(np.from_dlpack(result)) == address(result)


def test_a_result_outlives_the_network(batch):
    model = mirl.PromptIR(seed=1, **SMALL)
    expected = model(batch[0]).copy()
    view = np.from_dlpack(Exported(model(batch[0])))
    del model
    gc.collect()
    np.testing.assert_array_equal(view, expected)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda images: Exported(images, (CUDA, 0)), r"images: .*processor's memory, got .* 2"),
        (Refused, "images: it requires a gradient"),
        (lambda images: Exported(images.astype(np.float64)), r"images: .*float32, got float64"),
        (lambda images: Exported(images, None), "images: "),
    ],
    ids=["device", "refused", "float64", "nonsense"],
)
def test_what_cannot_be_viewed_is_a_type_error(small, batch, make, message):
    with pytest.raises(TypeError, match=message):
        small(make(batch[0]))


def test_messages_name_the_argument(small, batch):
    trainer, before = mirl.Trainer(small), small.snapshot().state_dict()
    degraded, clean = batch
    with pytest.raises(TypeError, match=r"^degraded: "):
        trainer.step(Refused(degraded), clean)
    with pytest.raises(TypeError, match=r"^clean: "):
        trainer.step(degraded, Refused(clean))
    with pytest.raises(TypeError, match=r"^clean: "):
        small.gradients(degraded, Refused(clean))
    with pytest.raises(TypeError, match=r"^degraded: "):
        mirl.evaluate(small, [(Refused(degraded), clean)], progress=False)
    with pytest.raises(TypeError, match=r"^clean: "):
        mirl.find_ticket(small, [(degraded, Refused(clean))], loggers=())
    with pytest.raises(TypeError, match=r"^b: "):
        mirl.psnr(degraded, Refused(clean))
    assert_same_state(small.state_dict(), before)


@pytest.fixture(scope="module")
def torch():
    return pytest.importorskip("torch", reason="PyTorch is no dependency, not of the tests either")


def test_torch_tensors_are_viewed(torch, small, batch):
    images = torch.from_numpy(batch[0].copy())
    assert address(as_array(images, "images")) == images.data_ptr()
    np.testing.assert_array_equal(small(images), small(batch[0]))


def test_a_torch_module_gives_its_state(torch, small, batch):
    module = torch.nn.Module()
    state = {name: torch.from_numpy(values) for name, values in small.state_dict().items()}
    for name, values in state.items():
        module.register_parameter(name.replace(".", "__"), torch.nn.Parameter(values))
    other = mirl.PromptIR(seed=2, **SMALL)
    found = {name.replace("__", "."): values for name, values in module.state_dict().items()}
    other.load_state_dict(found)
    np.testing.assert_array_equal(other(batch[0]), small(batch[0]))


def test_torch_tensors_of_any_strides(torch, small, batch):
    images = torch.from_numpy(batch[0].copy())
    expected = small(batch[0])
    np.testing.assert_array_equal(
        small(images.contiguous(memory_format=torch.channels_last)), expected
    )
    grey = images[:, :1].expand(-1, 3, -1, -1)
    np.testing.assert_array_equal(small(grey), small(grey.numpy().copy()))


def test_torch_takes_results_without_a_copy(torch, small, batch):
    result = small(batch[0])
    address_of_result, expected = address(result), result.copy()
    tensor = torch.from_dlpack(result)
    assert tensor.data_ptr() == address_of_result
    del result
    gc.collect()
    np.testing.assert_array_equal(tensor.numpy(), expected)


def test_a_torch_loader_is_data(torch, batch):
    pairs = torch.utils.data.TensorDataset(*(torch.from_numpy(images) for images in batch))
    loader = torch.utils.data.DataLoader(pairs, batch_size=1)
    arrays = [tuple(images[i : i + 1] for images in batch) for i in range(len(batch[0]))]
    found = [
        mirl.find_ticket(mirl.PromptIR(seed=1, **SMALL), data, rounds=1, loggers=())
        for data in (loader, arrays)
    ]
    np.testing.assert_array_equal(*(each.model(batch[0]) for each in found))
    rows = [mirl.evaluate(found[0].model, data, progress=False).rows for data in (loader, arrays)]
    assert rows[0] == rows[1]


def test_torch_tensors_that_numpy_cannot_view(torch, small, batch):
    images = torch.from_numpy(batch[0])
    for tensor, message in (
        (images.clone().requires_grad_(), "requires grad"),
        (images.to(torch.bfloat16), "images: "),
        (images.double(), "float32, got float64"),
        (images.to("meta"), "images: "),
        (images.to_sparse(), "images: "),
        (torch.complex(images, images).conj().imag, "negative bit"),
    ):
        with pytest.raises(TypeError, match=message):
            small(tensor)


def test_torch_tensors_on_a_gpu(torch, small, batch):
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no GPU here")
    with pytest.raises(TypeError, match=r"images: .*processor's memory.*cuda"):
        small(torch.from_numpy(batch[0]).to("cuda"))
