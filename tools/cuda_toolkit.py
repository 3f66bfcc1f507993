"""Put a CUDA toolkit for building mirl-cuda in a folder; print what the shell has to export.

    eval "$(python tools/cuda_toolkit.py target/cuda)"
    pip install ./cuda

Neither a GPU nor an installation of CUDA is needed: compiler and libraries are NVIDIA's packages
from PyPI (0.8 GB on disk). What they lack to look like an installation is added: names to link by,
and a stub of the driver, which only comes with a GPU.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = (
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-cuda-crt==13.0.88",
    "nvidia-nvvm==13.0.88",
    "nvidia-cuda-cccl==13.0.85",
    "nvidia-cuda-runtime==13.0.96",
    "nvidia-cublas==13.0.2.14",
)
"""CUDA 13.0: what is linked to its libraries runs with those of any later 13."""

CUDA = Path("nvidia", "cu13")
"""Where the packages put it."""

LINKED = ("cublas", "cublasLt")
"""Libraries that cudarc names to the linker."""

STUB_LIBRARY = 34
"""CUDA_ERROR_STUB_LIBRARY of cuda.h: what each function of NVIDIA's own stubs returns."""


def install(folder: Path) -> None:
    """Make the toolkit, unless the one that is there was made by this very script."""
    recipe = Path(__file__).read_text()
    made_by = Path(__file__).name
    if folder.exists():
        if not (folder / made_by).exists():
            sys.exit(f"{folder} is there already, and was not made by this script")
        if (folder / made_by).read_text() == recipe:
            return
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--no-deps", "--target", str(partial)]
    subprocess.run([*pip, *PACKAGES], check=True, stdout=sys.stderr)
    link_names(partial / CUDA)
    stub_driver(partial / CUDA)
    (partial / made_by).write_text(recipe)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


def link_names(home: Path) -> None:
    """Name the libraries as linkers and build scripts look for them."""
    (home / "lib64").symlink_to("lib")
    for name in LINKED:
        [library] = (home / "lib").glob(f"lib{name}.so.*")
        library.with_name(f"lib{name}.so").symlink_to(library.name)


def stub_driver(home: Path) -> None:
    """Make lib/stubs/libcuda.so: the driver's functions, to link to and to fail.

    The stub has the real one's soname, so it is found in its place only where lib/stubs is in
    LD_LIBRARY_PATH.
    """
    header = ["cc", "-E", str(home / "include" / "cuda.h")]
    code = subprocess.run(header, check=True, capture_output=True, text=True).stdout
    names = sorted(set(re.findall(r"\bCUresult (cu\w+)\(", code)))
    stub = home / "lib" / "stubs" / "libcuda.so"
    stub.parent.mkdir()
    source = "".join(f"int {name}(void) {{ return {STUB_LIBRARY}; }}\n" for name in names)
    link = ["cc", "-shared", "-fPIC", "-Wl,-soname,libcuda.so.1", "-o", str(stub), "-xc", "-"]
    subprocess.run(link, check=True, input=source, text=True)
    stub.with_name("libcuda.so.1").symlink_to(stub.name)


def exports(home: Path) -> str:
    """What the build scripts of cudarc and this crate, and the built programs, look at."""
    lines = [
        f"export CUDA_HOME={shlex.quote(str(home))}",
        'export PATH="$CUDA_HOME/bin:$PATH"',
        'export LD_LIBRARY_PATH="$CUDA_HOME/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"',
    ]
    return "\n".join(lines)


def main() -> None:
    """Install and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="where to put it; kept when it is up to date")
    folder = parser.parse_args().folder.resolve()
    install(folder)
    print(exports(folder / CUDA))


if __name__ == "__main__":
    main()
