"""What is said of pyctcdecode's strings rests on: a textbook search, its switches, and a forward algorithm."""

import math

import numpy as np
import pytest

from bench.ctc_agreement import POINTS, judge, log_probs, matrices, prefix_search, table, total
from tests.naive import ctc as naive


@pytest.mark.parametrize("frames", range(7))
def test_the_forward_algorithm_sums_over_all_paths(frames):
    x = log_probs(frames, 3, 1.0, 0.5, seed=frames)
    for string, expected in naive.all_strings(x).items():
        assert total(x, string) == pytest.approx(expected, abs=1e-12)
    assert total(x, (1,) * 7) == -math.inf  # seven labels do not fit


@pytest.mark.parametrize("width", [1, 3, 8, 25])
def test_the_search_without_points_is_the_textbook(width):
    for _, x in matrices(30):
        found = prefix_search(x[:20], width)
        expected = naive.prefix_beam(x[:20], width)
        assert found.keys() == {prefix for prefix, _, _ in expected}
        for prefix, mass, _ in expected:
            assert found[prefix] == pytest.approx(mass, abs=1e-12)


def test_every_point_does_what_it_says():
    # The paths of "a": a-blank 0.36, a-a 0.24. A beam of one path keeps the first.
    x = np.log([[0.4, 0.6], [0.6, 0.4]])
    assert prefix_search(x, 1) == pytest.approx({(1,): math.log(0.6)})
    assert prefix_search(x, 1, ["apart"]) == pytest.approx({(1,): math.log(0.36)})
    rare = np.array([[0.0, -50.0]])
    assert prefix_search(rare, 2, ["floor"])[(1,)] == pytest.approx(math.log(1e-15))
    long = log_probs(20, 2, 1.0, 0.0)
    rounded, exact = prefix_search(long, 8, ["single"]), prefix_search(long, 8)
    assert rounded != exact
    assert rounded == pytest.approx(exact, abs=1e-4)


@pytest.mark.filterwarnings("ignore")
def test_every_string_of_pyctcdecode_is_explained():
    rust, python = pytest.importorskip("fast_ctc_decode"), pytest.importorskip("pyctcdecode")
    verdicts = [judge(kind, x[:20], 6, rust, python) for kind, x in matrices()]
    assert all(verdict.textbook and verdict.rust and verdict.restated for verdict in verdicts)
    assert {verdict.causes for verdict in verdicts} == {(), ("apart",)}
    assert all(verdict.width for verdict in verdicts)
    likelier, less = (sum(sign * verdict.gain > 0 for verdict in verdicts) for sign in (1, -1))
    assert likelier > 3 * less
    column = {row.split(" | ")[0]: int(row.split()[-2]) for row in table(verdicts)[2:-2]}
    assert column["| ours is less likely"] == less
    assert column["| ... is pyctcdecode's"] + column[f"| ... is not: pyctcdecode {POINTS['apart']}"] == len(verdicts)
