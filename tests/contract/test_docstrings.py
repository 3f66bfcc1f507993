"""Everything public says what it does, and the examples are true."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import mirl

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(mirl.__path__, "mirl.")
    if module.name not in ("mirl._mirl", "mirl.__main__")
)


def undocumented(name, value):
    """Names of `value` and of its public members that have no docstring."""
    missing = [] if inspect.getdoc(value) else [name]
    if inspect.isclass(value):
        for member, attribute in vars(value).items():
            described = callable(attribute) or isinstance(attribute, (property, classmethod))
            if not member.startswith("_") and described and not inspect.getdoc(attribute):
                missing.append(f"{name}.{member}")
    return missing


@pytest.mark.parametrize("name", mirl.__all__)
def test_public_names_are_documented(name):
    assert undocumented(name, getattr(mirl, name)) == []


def test_what_is_offered_is_public():
    assert set(mirl.__all__) < set(dir(mirl))
    assert not {"os", "annotations", "arrays", "checks"} & set(dir(mirl))
    assert all(inspect.getdoc(getattr(mirl, name)) for name in dir(mirl))


@pytest.mark.parametrize("name", ["mirl", *MODULES])
def test_examples_are_true(name):
    module = importlib.import_module(name)
    assert module.__doc__
    assert doctest.testmod(module).failed == 0


def test_there_are_examples():
    finder = doctest.DocTestFinder()
    tests = [test for name in MODULES for test in finder.find(importlib.import_module(name))]
    assert sum(len(test.examples) for test in tests) > 0
