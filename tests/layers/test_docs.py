import doctest
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


def test_the_examples_of_the_lstm_page_give_what_it_says():
    results = doctest.testfile(str(DOCS / "lstm.md"), module_relative=False)
    assert results.attempted > 20
    assert results.failed == 0


@pytest.mark.parametrize("number", ["0", "1", "2", "3", "4", "5", "6", "0b", "1b", "2b", "3b", "4b", "5b", "6b"])
def test_every_numbered_equation_stands_on_the_page_and_in_the_kernels(number):
    """Code and page speak of the same lines: an equation that one of them loses is found missing here."""
    page = (DOCS / "lstm.md").read_text(encoding="utf-8")
    assert any(line.startswith(f"{number:<4}") for line in page.splitlines()), f"no line {number} on the page"
    name = "lstm_back.py" if number.endswith("b") else "lstm.py"
    kernels = (DOCS.parent / "fastlstm" / "kernels" / name).read_text(encoding="utf-8")
    assert f"# {number}" in kernels, f"no line bears {number} in {name}"
