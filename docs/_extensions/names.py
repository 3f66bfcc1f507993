"""Names in single backticks: arguments are code, all else is a reference that must lead somewhere.

Docstrings write `mirl.prune`, `Loader.from_folder` and `amount` alike. Names are looked up as seen
from where they stand, then by their end, which must be that of one object only. One without a dot
may be an argument of another function.
"""

from __future__ import annotations

import importlib
import inspect
import re
from typing import TYPE_CHECKING, Any

from docutils import nodes
from sphinx import addnodes
from sphinx.ext.napoleon import NumpyDocstring
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

PACKAGES = ("mirl", "mirl.data", "mirl.errors", "mirl.loggers", "mirl.lottery")
"""Whose public names (``__all__``) the reference must have."""

BACKTICKS = re.compile(r"(?<![`:\\\w])`([^`<>\n]+)`(?![`_\w])")
BARE = re.compile(r"[a-z_][a-z0-9_]*")
"""What may be an argument of some function."""

logger = logging.getLogger(__name__)


def parameters_as_code(
    app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
) -> None:
    """Double the backticks around parameters of the object that a docstring is of."""
    try:
        known = set(inspect.signature(thing).parameters)
    except (TypeError, ValueError):
        return

    def code(match: re.Match[str]) -> str:
        return f"``{match[1]}``" if match[1] in known else match[0]

    lines[:] = [BACKTICKS.sub(code, line) for line in lines]


KINDS = ("attribute", "data", "property")


class Attributes:
    """Keeps napoleon from taking what stands before a colon for the type of an attribute."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def before(
        self, app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
    ) -> None:
        """Make of the docstring what napoleon makes of a function's."""
        if what in KINDS:
            self.lines = NumpyDocstring(lines, app.config, app, "method", name, thing).lines()

    def after(
        self, app: Sphinx, what: str, name: str, thing: Any, options: Any, lines: list[str]
    ) -> None:
        """Put that in the place of what napoleon has made of it."""
        if what in KINDS:
            lines[:] = self.lines


def resolve(app: Sphinx, env: BuildEnvironment, node: Any, contnode: Any) -> nodes.Node | None:
    """Find what Sphinx did not: several exceptions at once, and the ends of names."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    if node["reftype"] == "exc" and ", " in target:
        found = nodes.inline()
        for index, each in enumerate(target.split(", ")):
            found += nodes.Text(", " if index else "")
            text = nodes.literal(text=each, classes=["xref", "py", "py-exc"])
            found += _by_end(app, env, node, each, text) or text
        return found
    if node["reftype"] == "obj" and BARE.fullmatch(target):
        return nodes.literal(text=contnode.astext())
    return _by_end(app, env, node, target, contnode)


def _by_end(
    app: Sphinx, env: BuildEnvironment, node: Any, target: str, contnode: Any
) -> nodes.Node | None:
    python = env.domains.python_domain
    ends = {
        (entry.docname, entry.node_id): name
        for name, entry in python.objects.items()
        if name == target or name.endswith(f".{target}")
    }
    if len(ends) != 1:
        return None
    (name,) = ends.values()
    return python.resolve_xref(env, node["refdoc"], app.builder, "obj", name, node, contnode)


class FullNames(SphinxPostTransform):
    """Makes references of full names in the code of prose, ``mirl.prune``, where there is one."""

    default_priority = 5

    def run(self, **_: Any) -> None:
        """Go through the code of a page."""
        python = self.env.domains.python_domain
        for code in list(self.document.findall(nodes.literal)):
            name = code.astext()
            linked = isinstance(code.parent, (addnodes.pending_xref, nodes.reference, nodes.title))
            if linked or not name.startswith("mirl.") or name not in python.objects:
                continue
            place, builder = self.env.docname, self.app.builder
            node = addnodes.pending_xref("", refdoc=place)
            found = python.resolve_xref(
                self.env, place, builder, "obj", name, node, code.deepcopy()
            )
            if found is not None:
                code.replace_self(found)


def check_complete(app: Sphinx, env: BuildEnvironment) -> None:
    """Warn of public names that the reference leaves out."""
    modules = {package: importlib.import_module(package) for package in PACKAGES}
    written = {id(_imported(name)) for name in env.domains.python_domain.objects}
    for package, module in modules.items():
        for name in module.__all__:
            if id(getattr(module, name)) not in written:
                logger.warning("%s.%s is not in the reference", package, name)


def _imported(name: str) -> Any:
    """The object of a name, or None; what is a module and a function in one is the function."""
    package, *parts = name.split(".")
    found: Any = importlib.import_module(package)
    for part in parts:
        found = getattr(found, part, None)
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    """Follow the documentation as it is made."""
    app.connect("autodoc-process-docstring", parameters_as_code, priority=100)
    attributes = Attributes()
    app.connect("autodoc-process-docstring", attributes.before, priority=200)
    app.connect("autodoc-process-docstring", attributes.after, priority=900)
    app.connect("missing-reference", resolve)
    app.add_post_transform(FullNames)
    app.connect("env-check-consistency", check_complete)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
