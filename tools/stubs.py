"""Write python/mirl/_mirl.pyi from the Rust core; with --check, only see that it is fresh.

pyo3 leaves the signatures in the compiled library and maturin reads them. Two things it cannot
know: what the annotations written out in src/py need imported, and exceptions (a module that
exports one counts as incomplete and has no `__all__`: PyO3/pyo3#5710), which are taken from the
installed package.
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

INCOMPLETE = "def __getattr__(name: str) -> Incomplete: ...\n"
IMPORTS = "import numpy\nfrom numpy.typing import NDArray\n"


def introspected(folder: Path) -> str:
    """Let maturin write the stub.

    The dev profile, since release builds are stripped of the signatures.
    """
    command = ["maturin", "generate-stubs", "--quiet", "--out", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    return (folder / "mirl" / "_mirl.pyi").read_text()


def exceptions() -> str:
    """Stubs of the exceptions that the core exports."""
    stubs = [
        f'class {name}({kind.__base__.__name__}):\n    """{kind.__doc__}"""\n'
        for name, kind in sorted(vars(_mirl).items())
        if isinstance(kind, type) and issubclass(kind, Exception)
    ]
    return "\n".join(stubs)


def all_names() -> str:
    """Say what the core exports; an incomplete module does not."""
    return f"__all__ = {sorted(_mirl.__all__)}\n"


def ruff(*arguments: str) -> None:
    """Run ruff."""
    subprocess.run(["ruff", *arguments], cwd=ROOT, check=True)


def stub() -> str:
    """Make the whole stub, in the house's format."""
    with tempfile.TemporaryDirectory() as folder:
        text = introspected(Path(folder))
        if INCOMPLETE not in text:
            sys.exit("the stub is complete without the exceptions that tools/stubs.py adds")
        text = text.replace("\nfrom ", f"\n{IMPORTS}from ", 1)
        text = text.replace(INCOMPLETE, exceptions()).replace("VERSION", all_names() + "VERSION", 1)
        path = Path(folder) / "_mirl.pyi"
        path.write_text(text)
        # Written-out annotations arrive in quotes; some imports are not needed.
        ruff("check", "--quiet", "--isolated", "--select=F401,I,PYI020", "--fix", str(path))
        ruff("format", "--quiet", "--config", str(ROOT / "pyproject.toml"), str(path))
        return path.read_text()


def main() -> None:
    """Write or check."""
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
