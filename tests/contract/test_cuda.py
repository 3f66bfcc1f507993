"""mirl-cuda's library takes the place of mirl's own where it loads; where not, `mirl` says why."""

import ctypes
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mirl
from mirl import _mirl
from reference import SMALL

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = f"""
import json, sys
without = sys.argv[1:]
sys.modules.update(dict.fromkeys(without))  # as if they were not installed
import numpy as np
import mirl
try:
    mirl.PromptIR(device="cuda")
except mirl.errors.DeviceError as error:
    message = str(error)
model = mirl.PromptIR(**{SMALL!r})
finite = bool(np.isfinite(model(np.zeros((1, 3, 16, 16), np.float32))).all())
print(json.dumps([mirl.devices()["cuda"], message, mirl._mirl.__name__, finite]))
"""


def cuda(*without, **variables):
    """What `mirl.devices` says of CUDA, and the library in use; in a fresh interpreter.

    Whatever is said, the exception says it too, and networks run on the CPU.
    """
    command = [sys.executable, "-c", SCRIPT, *without]
    environment = os.environ | variables
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    says, message, library, finite = json.loads(run.stdout)
    assert says.startswith("not there: ")
    assert message == f"device 'cuda' is {says}"
    assert finite
    return says.removeprefix("not there: "), library


@pytest.fixture
def package(tmp_path):
    """A folder with a package mirl_cuda that lacks its library."""
    (tmp_path / "mirl_cuda").mkdir()
    (tmp_path / "mirl_cuda" / "__init__.py").touch()
    return tmp_path


def test_without_mirl_cuda_the_reason_is_how_to_install_it():
    reason = (
        "mirl-cuda is not installed: pip install ./cuda in a clone, or"
        ' pip install "mirl[cuda]" from an index that has it'
    )
    assert cuda("mirl_cuda") == (reason, "mirl._mirl")


@pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler")
def test_cublas_is_found_in_another_folder(package, tmp_path):
    """Wherever pip has put it; the library that could not be loaded is tried again then."""
    lib = tmp_path / "elsewhere" / "nvidia" / "cu13" / "lib"
    lib.mkdir(parents=True)
    source = tmp_path / "empty.c"
    for name in ("cublasLt", "cublas"):
        source.write_text(f"int {name}(void) {{ return 13; }}")
        subprocess.run(["cc", "-shared", "-o", lib / f"lib{name}.so.13", source], check=True)
    (package / "mirl_cuda" / "_mirl.py").write_text(
        "import ctypes\n"
        "try:\n"
        "    found = [ctypes.CDLL(None).cublas(), ctypes.CDLL(None).cublasLt()]\n"
        "except AttributeError:\n"
        "    raise ImportError('libcublas.so.13: no such file') from None\n"
        "VERSION = found\n"
    )
    says, _ = cuda(PYTHONPATH=f"{package}{os.pathsep}{tmp_path / 'elsewhere'}")
    assert says.startswith("mirl-cuda is [13, 13], not ")


@pytest.mark.parametrize(
    ("loader_says", "reason"),
    [
        ("libcuda.so.1: no such file", "NVIDIA's driver is not installed"),
        ("libcublas.so.13: no such file", "mirl-cuda cannot be loaded"),
        ("_mirl.abi3.so: undefined symbol: cuInit", "mirl-cuda cannot be loaded"),
    ],
)
def test_a_library_that_does_not_load_is_left_alone(package, loader_says, reason):
    (package / "mirl_cuda" / "_mirl.py").write_text(f"raise ImportError({loader_says!r})")
    says, library = cuda(PYTHONPATH=str(package))
    assert says.startswith(reason)
    assert loader_says in says
    assert library == "mirl._mirl"


def test_a_library_of_another_version_is_left_alone(package):
    (package / "mirl_cuda" / "_mirl.py").write_text("VERSION = '0.0.1'")
    says, library = cuda(PYTHONPATH=str(package))
    assert says.startswith(f"mirl-cuda is 0.0.1, not {mirl.__version__}: pip install ./cuda")
    assert library == "mirl._mirl"


def test_a_library_that_loads_is_used(package):
    own = importlib.util.find_spec("mirl._mirl").origin
    shutil.copy(own, package / "mirl_cuda" / Path(own).name)
    says, library = cuda(PYTHONPATH=str(package))
    assert library == "mirl_cuda._mirl"
    assert says == "this library is built without CUDA"


def test_every_version_is_that_of_the_crate():
    extra = re.search(
        r'^cuda = \["mirl-cuda==(.*)"\]$', (ROOT / "pyproject.toml").read_text(), re.M
    )
    assert mirl.library.VERSION == _mirl.VERSION == extra.group(1)


@pytest.fixture
def mirl_cuda():
    """The real one."""
    if importlib.util.find_spec("mirl_cuda") is None:
        pytest.skip("mirl-cuda is not installed")


def driver_is_there():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


@pytest.mark.usefixtures("mirl_cuda")
def test_without_a_driver_mirl_cuda_is_left_alone():
    if driver_is_there():
        pytest.skip("NVIDIA's driver is installed")
    says, library = cuda()
    assert says.startswith("NVIDIA's driver is not installed (libcuda.so.1: ")
    assert library == "mirl._mirl"


@pytest.mark.usefixtures("mirl_cuda")
def test_a_driver_without_a_gpu_is_told_from_none():
    stubs = Path(os.environ.get("CUDA_HOME", ""), "lib", "stubs")
    if not (stubs / "libcuda.so.1").exists():
        pytest.skip("CUDA_HOME has no stub of the driver (tools/cuda_toolkit.py makes one)")
    assert cuda(LD_LIBRARY_PATH=f"{stubs}:{os.environ.get('LD_LIBRARY_PATH', '')}") == (
        "NVIDIA's driver says CUDA_ERROR_STUB_LIBRARY",
        "mirl_cuda._mirl",
    )


def test_a_toolkit_never_takes_the_place_of_other_files(tmp_path):
    (tmp_path / "thesis.tex").touch()
    command = [sys.executable, str(ROOT / "tools" / "cuda_toolkit.py"), str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1
    assert "was not made by this script" in run.stderr
    assert (tmp_path / "thesis.tex").exists()
