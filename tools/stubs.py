"""Write python/mirl/_mirl.pyi from the Rust core, or with --check see that it is fresh.

pyo3 leaves the signatures in the compiled library and maturin reads them. Two things it cannot
know: what the annotations written out in src/py need imported, and exceptions (a module that
exports one counts as incomplete: PyO3/pyo3#5710), which are taken from the installed package.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from mirl import _mirl

ROOT = Path(__file__).resolve().parents[1]
STUB = ROOT / "python" / "mirl" / "_mirl.pyi"

HEADER = "# Written by tools/stubs.py.\nimport numpy\nfrom numpy.typing import NDArray\n"
INCOMPLETE = "def __getattr__(name: str) -> Incomplete: ...\n"


def introspected(folder: Path) -> str:
    """The stub as maturin makes it.

    The dev profile, since release builds are stripped of the signatures.
    """
    command = ["maturin", "generate-stubs", "--quiet", "--out", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    return (folder / "mirl" / "_mirl.pyi").read_text()


def exceptions() -> str:
    """Classes of the exceptions that the core exports."""
    values = (value for _, value in sorted(vars(_mirl).items()))
    kinds = [v for v in values if isinstance(v, type) and issubclass(v, Exception)]
    return "".join(f'class {k.__name__}({k.__base__.__name__}):\n    """{k.__doc__}"""\n' for k in kinds)


def ruff(*arguments: str) -> None:
    subprocess.run(["ruff", *arguments], cwd=ROOT, check=True)


def stub() -> str:
    with tempfile.TemporaryDirectory() as folder:
        text = introspected(Path(folder))
        if INCOMPLETE not in text:
            sys.exit("maturin has learned exceptions: tools/stubs.py need not add them any more")
        path = Path(folder) / "_mirl.pyi"
        path.write_text(HEADER + text.replace(INCOMPLETE, exceptions()))
        # Annotations arrive quoted, imports in two places.
        ruff("check", "--quiet", "--isolated", "--select=F401,I,PYI020", "--fix", str(path))
        ruff("format", "--quiet", "--config", str(ROOT / "pyproject.toml"), str(path))
        return path.read_text()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail where stale")
    check = parser.parse_args().check
    fresh = stub()
    if not check:
        STUB.write_text(fresh)
    elif STUB.read_text() != fresh:
        sys.exit(f"{STUB.relative_to(ROOT)} is stale: run python tools/stubs.py")


if __name__ == "__main__":
    main()
