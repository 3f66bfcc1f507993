"""The site: `sphinx-build -W -b html docs target/docs`, with the extra `docs`.

Notebooks are shown as they lie in the repository, without outputs. MIRL_DOCS_EXECUTE=1 runs them
first, in some minutes, and keeps what came out in a cache beside the pages.
"""

from __future__ import annotations

import os
import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "_extensions"))


def copy_notebooks(source: Path, target: Path) -> None:
    """Make the notebooks in `target` those of `source`: Sphinx reads nothing outside its folder."""
    target.mkdir(exist_ok=True)
    wanted = {path.name: path for path in source.glob("*.ipynb")}
    for path in target.glob("*.ipynb"):
        if path.name not in wanted:
            path.unlink()
    for name, path in wanted.items():
        copy = target / name
        # Links to these pages, as seen from here.
        text = path.read_text(encoding="utf-8").replace("](../docs/", "](../")
        # The time of a file that is as it was stays, so that Sphinx does not read it again.
        if not copy.exists() or copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")


copy_notebooks(HERE.parent / "notebooks", HERE / "notebooks")

project = "mirl"
author = "The mirl developers"
project_copyright = author
version = release = version_of("mirl")

extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon", "myst_nb", "command_line", "names"]
exclude_patterns = ["_build"]
nitpicky = True
# There is no network where the site is built, so that names of other libraries lead nowhere.
nitpick_ignore_regex = [
    (r"py:.*", r"(numpy|np|pandas|matplotlib|pathlib|os|tqdm)\..+"),
    (r"py:class", r"NDArray|Path|DataFrame|Axes|(Sub)?Figure"),
    # See reference/index.md.
    (r"py:class", r"(mirl\.\w+\.)?(FloatArray|Folders|LossFunction|Pixels|Restorer|Runs|Self)"),
    (r"py:class", r"(mirl\.\w+\.)?SupportsDLPack"),
    (r"py:class", r"(collections\.abc\.)?(Callable|Iterable|Iterator|Mapping|Sequence)"),
]
default_role = "py:obj"  # see _extensions/names.py

autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True}
python_maximum_signature_line_length = 80
python_use_unqualified_type_names = True
napoleon_google_docstring = False
napoleon_use_param = False  # arguments that share a description have one line
napoleon_use_rtype = False
add_module_names = True
toc_object_entries_show_parents = "hide"

myst_heading_anchors = 3
nb_execution_mode = "cache" if os.environ.get("MIRL_DOCS_EXECUTE") == "1" else "off"
nb_execution_timeout = 900
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = "remove"  # what tqdm says where there are no widgets

html_theme = "furo"
html_title = f"mirl {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False


def as_in_the_site(app: Sphinx, docname: str, source: list[str]) -> None:
    """Let links that lead somewhere in the repository lead somewhere in the site.

    Results of benchmarks that are Markdown, which are no pages, are offered as files; notebooks are
    the pages that were copied.
    """
    source[0] = re.sub(r"\]\((?=\.\./benchmarks/[^)#]+\.md\))", "](path:", source[0])
    source[0] = re.sub(r"\]\(((?:\.\./)*)\.\./notebooks/", r"](\1notebooks/", source[0])


def setup(app: Sphinx) -> None:
    """Follow the reading of pages."""
    app.connect("source-read", as_in_the_site)
