"""Every example in a docstring of the installed package runs, and gives what it says."""

import doctest
import importlib
import pkgutil

import pytest

import fastlstm

MODULES = sorted(module.name for module in pkgutil.walk_packages(fastlstm.__path__, "fastlstm."))


@pytest.mark.parametrize("name", ["fastlstm", *MODULES])
def test_examples(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_there_are_examples_at_all():
    finder = doctest.DocTestFinder()
    found = [test for name in MODULES for test in finder.find(importlib.import_module(name)) if test.examples]
    assert len(found) >= 20
