"""The page about looking inside: its examples, its links, and its picture, which is what running its script draws."""

import doctest
import re
import runpy
from pathlib import Path

import numpy as np
import pytest

import fastlstm as fl

DOCS = Path(__file__).parents[2] / "docs"
PAGE, SCRIPT = DOCS / "inspect.md", DOCS / "figures" / "gates.py"


def test_the_examples_give_what_the_page_says():
    results = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert results.attempted >= 15
    assert results.failed == 0


def test_links_lead_somewhere():
    links = re.findall(r"\]\((?!http|#)([^)#]+)\)", PAGE.read_text(encoding="utf-8"))
    assert "figures/gates.png" in links
    assert [link for link in links if not (DOCS / link).exists()] == []


def test_the_picture_is_there_small_and_says_what_made_it():
    png = SCRIPT.with_suffix(".png").read_bytes()
    assert png.startswith(b"\x89PNG")
    assert len(png) < 150_000
    made = re.search(rb"Software\0(docs/figures/gates.py, fastlstm [^\0]*?Python [\d.]+)", png)
    assert made
    assert all(name in made[1] for name in (b"NumPy", b"Numba", b"matplotlib"))


def test_the_gates_open_and_shut_as_the_page_says(tmp_path, capsys):
    """In the model that the script trains: a unit for A and one for B, which keep and say what they are told."""
    pytest.importorskip("matplotlib")
    script = runpy.run_path(str(SCRIPT))
    models = []
    script["main"].__globals__["train"] = lambda: models.append(script["train"]()) or models[0]
    script["main"](tmp_path / "gates.png")
    assert (tmp_path / "gates.png").read_bytes().startswith(b"\x89PNG")
    assert float(capsys.readouterr().out.split(": ")[1]) < 0.02
    numbers, orders = script["story"]()
    trace = fl.inspect(models[0], script["inputs"](numbers, orders))
    i, f, o = (trace.gates[gate][0] for gate in "ifo")
    keeps = [i[orders[0] == keep].mean(axis=0).argmax() for keep in (1, 2)]
    assert sorted(keeps) == [0, 1], "each unit keeps one of the two"
    for unit, keep, say in zip(keeps, (1, 2), (3, 4), strict=True):
        for gate, order in ((i, keep), (1.0 - f, keep), (o, say)):
            at_order = orders[0] == order
            assert gate[at_order, unit].min() > 0.6
            assert gate[~at_order, unit].max() < 0.1
        kept = np.maximum.accumulate(np.where(orders[0] == keep, np.arange(orders.size), 0))
        since = trace.cell[0, :, unit] / trace.cell[0, kept, unit]
        assert np.abs(since[kept > 0] - 1.0).max() < 0.2, "the cell keeps its value"
