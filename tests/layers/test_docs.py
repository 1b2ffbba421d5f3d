"""The pages of the cells: their examples, and their numbered equations, which are run and compared with the kernels."""

import doctest
import re
from pathlib import Path

import numpy as np
import pytest

from tests.cell_cases import naive_gradients
from tests.kernels.recurrent.harness import Batch
from tests.tolerances import assert_gradients_close, assert_outputs_close

DOCS = Path(__file__).parents[2] / "docs"
CELLS = {"lstm.md": "lstm", "gru.md": "gru", "rnn.md": "rnn tanh"}
PAGES = [page for page in CELLS if (DOCS / page).exists()]

UNITS = 5


LEAST = {"lstm": 20, "gru": 10, "rnn": 6, "activations": 4, "attention": 20}
"""Examples that a page has at least."""


@pytest.mark.parametrize("page", LEAST)
def test_the_examples_of_a_page_give_what_it_says(page):
    results = doctest.testfile(str(DOCS / f"{page}.md"), module_relative=False, encoding="utf-8")
    assert results.attempted >= LEAST[page]
    assert results.failed == 0


def numbered_lines(page):
    """Return the equations of a page by their numbers: lists of Python statements. The first of a number counts.

    Not those of a cell's options, which have a part of the page for themselves.
    """
    found = {}
    plain, _, _ = (DOCS / page).read_text(encoding="utf-8").partition("\n## Peepholes")
    for line in plain.splitlines():
        match = re.match(r"(\d+b?) +(?=\w+ = )(.*)", line)
        if match and match[1] not in found:
            parts = [part.strip() for part in re.split(r" {2,}", match[2])]
            found[match[1]] = [as_python(part) for part in parts if re.match(r"\w+ = ", part)]
    return found


def as_python(equation):
    """Return an equation of a page as NumPy would have it."""
    equation = re.sub(
        r"(W_\w+)(\^T)? (\w+)", lambda found: f"{found[1]}{'.T' if found[2] else ''} @ {found[3]}", equation
    )
    return equation.replace("^", "**")


def run(lines, numbers, values):
    """Run numbered lines, one after the other."""
    for number in numbers:
        for statement in lines[number]:
            exec(statement, {}, values)


@pytest.mark.parametrize("page", PAGES)
def test_the_numbered_equations_of_a_page_compute_what_the_kernels_do(page):
    batch, lines = Batch(CELLS[page], "float64", [1], UNITS), numbered_lines(page)
    case, cell = batch.case, batch.cell
    forward = sorted((number for number in lines if not number.endswith("b")), key=int)
    assert forward == [str(number) for number in range(len(forward))], "a number is missing"
    assert {f"{number}b" for number in forward} == {number for number in lines if number.endswith("b")}
    params = {name.removesuffix("_l0"): value for name, value in case.weights.items()}
    values = {
        "sigmoid": lambda a: 1.0 / (1.0 + np.exp(-a)),
        "tanh": np.tanh,
        "W_ih": params["weight_ih"],
        "W_hh": params["weight_hh"],
        "b_ih": params["bias_ih"],
        "b_hh": params["bias_hh"],
        "x": case.xs[0][0],
        "h_prev": case.states[0][0],
        "c_prev": case.states[-1][0],
    }
    run(lines, ["0"], values)
    for whole in {"a", "u"} & values.keys():
        for gate, part in zip(cell.gates, values[whole].reshape(-1, UNITS), strict=True):
            values[f"{whole}_{gate}"] = part
    run(lines, forward[1:], values)
    gates, _, hidden, cells = batch.forward()
    assert_outputs_close(hidden[1], values["h"], what="h")
    if cell.has_cell:
        assert_outputs_close(cells[1, :UNITS], values["c"], what="c")
    for gate, kept in zip(cell.gates, batch.in_torch_order(gates)[0], strict=True):
        assert_outputs_close(kept, values[gate], what=gate)

    dy, dc = batch.gradients()
    values |= {"dh": dy[0], "dc": dc[0, :UNITS]}
    run(lines, [f"{number}b" for number in reversed(forward[1:])], values)
    for whole in {"a", "u"} & values.keys():
        if f"d{whole}" not in values:
            values[f"d{whole}"] = np.concatenate([_first(values, whole, gate) for gate in cell.gates])
    run(lines, ["0b"], values)
    da, _, carried = batch.backward()
    assert_gradients_close(batch.in_torch_order(da).reshape(-1), values["da"], what="da")
    expected = naive_gradients(case)
    assert_gradients_close(values["dx"], expected.xs[0][0], what="dx")
    assert_gradients_close(values["dh_prev"], expected.states[0][0], what="dh_prev")
    if cell.has_cell:
        assert_gradients_close(carried[0, :UNITS], values["dc_prev"], what="dc_prev")


def _first(values, whole, gate):
    """Return a gate's part of da or du; of the gates whose two products are added alike, both are one."""
    return values.get(f"d{whole}_{gate}", values.get(f"da_{gate}"))


def test_an_equation_that_is_wrong_would_be_found(monkeypatch):
    right = numbered_lines("lstm.md")
    wrong = {**right, "5": ["c = f*c_prev - i*g"]}
    monkeypatch.setitem(globals(), "numbered_lines", lambda page: wrong)
    with pytest.raises(AssertionError, match="h: differs"):
        test_the_numbered_equations_of_a_page_compute_what_the_kernels_do("lstm.md")
