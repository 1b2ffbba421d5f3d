"""Every page of decisions has its parts and its figures, each written by a program that runs."""

import re

import pytest

pytest.importorskip("pytest_benchmark")

from bench.decisions import MEASURES, PAGES, caption, filled, markdown, names_in
from bench.measured_sharing import Table

PARTS = ("## Context", "## Choice", "## Measured", "## Tried", "## Look again")
EACH_PAGE = pytest.mark.parametrize("page", sorted(PAGES.glob("*.md")), ids=lambda page: page.stem)
SLOW = {"compiling", "gates-in-powers-of-two"}  # fresh processes; a cell that nothing else compiles


@EACH_PAGE
def test_a_page_has_its_parts_in_order(page):
    text = page.read_text(encoding="utf-8")
    places = [text.find(f"\n{part}\n") for part in PARTS]
    assert -1 not in places
    assert places == sorted(places)


@EACH_PAGE
def test_the_figures_of_a_page_were_measured(page):
    text = page.read_text(encoding="utf-8")
    assert len(names_in(text)) == text.count("<!-- measured:") == text.count("<!-- end -->") > 0
    for name in names_in(text):
        block = text.split(f"<!-- measured: {name} -->")[1].split("<!-- end -->")[0]
        assert re.search(r"\d{4}-\d\d-\d\d .*Python .*numba .*threads", block), name


@EACH_PAGE
def test_no_time_is_written_by_hand(page):
    text = re.sub(r"<!-- measured:.*?<!-- end -->", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not re.findall(r"\d (?:us|ms|s|GFLOP/s|%)(?![\w])", text)


def test_every_measure_has_its_page_and_every_figure_its_measure():
    shown = [name for page in PAGES.glob("*.md") for name in names_in(page.read_text(encoding="utf-8"))]
    assert sorted(shown) == sorted(MEASURES)


@pytest.mark.parametrize("name", sorted(set(MEASURES) - SLOW))
def test_a_measure_gives_a_table_without_holes(name):
    table = MEASURES[name](True)
    assert table.rows
    assert {len(row) for row in table.rows} == {len(table.head)}
    assert all(row[0] and any(row[1:]) for row in table.rows)


def test_only_what_was_measured_is_written():
    page = "a\n<!-- measured: one -->\nold\n<!-- end -->\nb\n<!-- measured: two -->\n<!-- end -->\n"
    once = filled(page, {"one": "new\n"})
    assert once == "a\n<!-- measured: one -->\nnew\n<!-- end -->\nb\n<!-- measured: two -->\n<!-- end -->\n"
    assert filled(once, {"two": "x\n"}).endswith("<!-- measured: two -->\nx\n<!-- end -->\n")


def test_a_table_in_markdown():
    assert markdown(Table(("a", "b"), [("1", "2")])) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n"


def test_the_caption_names_the_machine_and_its_load():
    assert re.search(r"Python .*; \d+ threads; load 1\.5 at the start\.$", caption(1.5))
