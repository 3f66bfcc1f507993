"""Runs what the how-to guides say, page by page, as a reader would: Python, commands, files.

Run it as ``python docs/snippets.py``, with the names of pages to run these only. Each page starts in an
empty folder with ``data``, photos of scikit-image in the published layout. Left out is what comes
after ``<!-- not run: why -->``. What they print is shown where they fail.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from skimage import data as photos

import mirl

PAGES = Path(__file__).resolve().parent / "howto"
BLOCK = re.compile(r"(<!-- not run: [^\n]*-->\n)?^```(python|sh|toml)\n(.*?)^```$", re.M | re.S)
TRAIN = ("astronaut", "coffee", "rocket")
TEST = ("chelsea",)
SIZE = (112, 96)
"""Width and height of the photos' centres that are used."""


def write_data(root: Path) -> None:
    """Write the photos."""
    for split, names in (("train", TRAIN), ("test", TEST)):
        place = root / split / "denoise" / "photos"
        place.mkdir(parents=True)
        for name in names:
            photo = getattr(photos, name)()
            top, left = ((photo.shape[axis] - SIZE[1 - axis]) // 2 for axis in (0, 1))
            centre = photo[top : top + SIZE[1], left : left + SIZE[0]]
            mirl.write_image(place / f"{name}.png", centre.copy())


def run(page: Path) -> None:
    """Run the blocks of a page, one after the other; Python's share their names."""
    names: dict[str, object] = {"__name__": "__main__"}
    text = page.read_text(encoding="utf-8")
    for block in BLOCK.finditer(text):
        left_out, language, source = block.groups()
        if left_out:
            continue
        if language == "toml":
            Path(source.splitlines()[0].removeprefix("# ")).write_text(source, encoding="utf-8")
        elif language == "sh":
            command = ["bash", "-euo", "pipefail", "-c", source]
            done = subprocess.run(command, check=False, capture_output=True, text=True)
            if done.returncode != 0:
                raise RuntimeError(f"{source}{done.stdout}{done.stderr}")
        else:
            # So that a traceback has the line of the page.
            lines = "\n" * text.count("\n", 0, block.start(3))
            exec(compile(lines + source, str(page), "exec"), names)


def main() -> None:
    """Run all pages, or those that are named."""
    pages = {page.stem: page for page in sorted(PAGES.glob("*.md"))}
    wanted = sys.argv[1:] or pages
    if unknown := ", ".join(set(wanted) - pages.keys()):
        sys.exit(f"no page {unknown}; there are {', '.join(pages)}")
    for page in (pages[name] for name in wanted):
        began = time.monotonic()
        said = io.StringIO()
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            write_data(Path("data"))
            try:
                with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                    run(page)
            except BaseException:
                print(said.getvalue())
                raise
            finally:
                os.chdir(PAGES)
        print(f"{page.stem}: {time.monotonic() - began:.1f} s", flush=True)


if __name__ == "__main__":
    main()
