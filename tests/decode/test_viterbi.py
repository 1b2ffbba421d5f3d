"""Viterbi against enumeration of every path."""

import itertools
import math

import numpy as np
import pytest

from fastlstm.decode.viterbi import viterbi
from fastlstm.errors import DataError, OptionError, ShapeError


def enumerate_paths(scores, transitions, start, end):
    """Every possible path with its score; best first, ties by lower last label, then by the label before it."""
    length, labels = scores.shape
    found = []
    for path in itertools.product(range(labels), repeat=length):
        total = start[path[0]] + end[path[-1]] + sum(scores[t, y] for t, y in enumerate(path))
        total += sum(transitions[a, b] for a, b in itertools.pairwise(path))
        if total > -math.inf:
            found.append((path, total))
    return sorted(found, key=lambda item: (-item[1], item[0][::-1]))


def random_chain(rng, length, labels, integers):
    arrays = [rng.normal(size=shape) * 3 for shape in ((length, labels), (labels, labels), (labels,), (labels,))]
    if integers:  # many ties, and sums that are exact in any order
        arrays = [array.round() for array in arrays]
    for array in arrays:
        array[rng.random(array.shape) < 0.1] = -np.inf
    return arrays


@pytest.mark.parametrize("integers", [False, True])
def test_equals_enumeration(integers):
    rng = np.random.default_rng(1)
    possible = 0
    for _ in range(300):
        length, labels = [(1, 1), (1, 6), (2, 5), (3, 4), (5, 3), (8, 2), (6, 1)][rng.integers(7)]
        scores, transitions, start, end = random_chain(rng, length, labels, integers)
        expected = enumerate_paths(scores, transitions, start, end)
        arguments = {"start": start, "end": end, "normalize": True}
        if not expected:
            with pytest.raises(DataError, match="forbidden"):
                viterbi(scores, transitions, **arguments)
            continue
        possible += 1
        log_z = np.logaddexp.reduce([total for _, total in expected])
        for n_best in (1, 2, 7, 10_000):
            found = viterbi(scores, transitions, n_best=n_best, **arguments)
            assert [h.ids for h in found] == [path for path, _ in expected[:n_best]]
            np.testing.assert_allclose([h.score for h in found], [total for _, total in expected[:n_best]], atol=1e-9)
            np.testing.assert_allclose([h.logprob for h in found], [h.score - log_z for h in found], atol=1e-9)
    assert possible > 200


def list_viterbi(scores, transitions, start, end, n_best):
    """The n best ways to each label, kept at every step (Seshadri and Sundberg 1994): [(score, path)], best first."""
    ways = [[(first + score, (label,))] for label, (first, score) in enumerate(zip(start, scores[0], strict=True))]
    for row in [*scores[1:], None]:
        columns = [(end, 0.0, ())] if row is None else [(transitions[:, j], row[j], (j,)) for j in range(len(row))]
        grown = []
        for moves, score, label in columns:
            found = [
                (w + m, i, r, p) for i, m in enumerate(moves) for r, (w, p) in enumerate(ways[i]) if w + m > -np.inf
            ]
            found.sort(key=lambda way: (-way[0], way[1:3]))
            grown.append([(total + score, path + label) for total, _, _, path in found[:n_best]])
        ways = grown
    return ways[0]


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize(("length", "labels", "n_best"), [(40, 7, 2), (25, 3, 60), (12, 20, 15), (30, 2, 300)])
def test_n_best_equal_those_of_lists_at_every_step(integers, length, labels, n_best):
    rng = np.random.default_rng(length)
    for _ in range(5):
        scores, transitions, start, end = random_chain(rng, length, labels, integers)
        expected = list_viterbi(scores, transitions, start, end, n_best)
        if not expected:
            continue
        found = viterbi(scores, transitions, start=start, end=end, n_best=n_best)
        assert [(h.score, h.ids) for h in found] == expected


def test_best_path_equals_the_first_of_n_on_large_chains():
    rng = np.random.default_rng(2)
    for length, labels in ((200, 37), (1000, 5), (50, 130)):
        scores, transitions = rng.normal(size=(length, labels)), rng.normal(size=(labels, labels))
        [one], many = viterbi(scores, transitions), viterbi(scores, transitions, n_best=5)
        assert many[0].ids == one.ids
        assert len({h.ids for h in many}) == 5
        for h in many:
            path = list(h.ids)
            total = scores[np.arange(length), path].sum() + transitions[path[:-1], path[1:]].sum()
            assert h.score == pytest.approx(total)


def test_batches_equal_each_alone():
    rng = np.random.default_rng(3)
    scores, transitions, lengths = rng.normal(size=(4, 9, 5)), rng.normal(size=(5, 5)), [9, 1, 4, 7]
    alone = [viterbi(scores[n, :length], transitions, n_best=3) for n, length in enumerate(lengths)]
    cut = [scores[n, :length] for n, length in enumerate(lengths)]
    padded = scores.copy()
    for n, length in enumerate(lengths):
        padded[n, length:] = np.nan  # padding is not read
    assert viterbi(padded, transitions, lengths=lengths, n_best=3) == alone
    assert viterbi(cut, transitions, n_best=3) == alone
    assert viterbi(scores, transitions)[0] == viterbi(scores[0], transitions)


@pytest.mark.parametrize("convert", [
    lambda x: x.astype(">f8"), lambda x: x.astype(np.float16), np.asfortranarray, lambda x: x.astype(np.int8),
    lambda x: x.tolist(), lambda x: np.repeat(x, 2, axis=-1)[..., ::2],
])  # fmt: skip
def test_any_layout(convert):
    rng = np.random.default_rng(4)
    scores, transitions = (
        rng.integers(-9, 9, size=(12, 6)).astype(float),
        rng.integers(-9, 9, size=(6, 6)).astype(float),
    )
    assert viterbi(convert(scores), convert(transitions)) == viterbi(scores, transitions)


def test_hundred_thousand_steps():
    rng = np.random.default_rng(5)
    scores, transitions = rng.normal(size=(100_000, 4)), rng.normal(size=(4, 4))
    [best] = viterbi(scores, transitions, normalize=True)
    path = np.array(best.ids)
    total = scores[np.arange(len(path)), path].sum() + transitions[path[:-1], path[1:]].sum()
    assert best.score == pytest.approx(total)
    assert best.logprob < 0
    many = viterbi(scores, transitions, n_best=20)
    assert many[0].ids == best.ids
    assert len({h.ids for h in many}) == 20


GOOD, MOVES = np.zeros((3, 2)), np.zeros((2, 2))


@pytest.mark.parametrize(("arguments", "error", "message"), [
    ({"scores": np.zeros((0, 2))}, ShapeError, "at least one step"),
    ({"scores": np.zeros((2, 0))}, ShapeError, "at least one step"),
    ({"scores": np.zeros(3)}, ShapeError, r"\(3,\)"),
    ({"scores": []}, ShapeError, "shape"),
    ({"scores": [GOOD, np.zeros((3, 3))]}, ShapeError, "3 labels"),
    ({"scores": [[0.0, 1.0], [0.0]]}, ShapeError, "shape"),
    ({"scores": GOOD + np.nan}, DataError, "NaN"),
    ({"scores": GOOD + np.inf}, DataError, r"\+inf"),
    ({"scores": GOOD - np.inf}, DataError, "forbidden"),
    ({"scores": GOOD + 1e308}, DataError, "overflows"),
    ({"scores": GOOD + 1e308, "n_best": 2}, DataError, "overflows"),
    ({"scores": GOOD * 1j}, DataError, "complex"),
    ({"transitions": np.zeros((3, 3))}, ShapeError, r"\(2, 2\)"),
    ({"transitions": MOVES + np.nan}, DataError, "transitions holds NaN"),
    ({"start": np.zeros(3)}, ShapeError, "start"),
    ({"end": ["a", "b"]}, DataError, "real numbers"),
    ({"n_best": 0}, OptionError, "n_best=0"),
    ({"n_best": 1.5}, OptionError, "no integer"),
    ({"lengths": [3]}, OptionError, "one sequence"),
    ({"scores": [GOOD, GOOD], "lengths": [3, 3]}, OptionError, "list"),
    ({"scores": GOOD[None], "lengths": [4]}, ShapeError, r"lengths\[0\]=4"),
    ({"scores": GOOD[None], "lengths": [0]}, ShapeError, r"lengths\[0\]=0"),
    ({"scores": GOOD[None], "lengths": [1, 2]}, ShapeError, "1 integers"),
    ({"scores": GOOD[None], "lengths": [1.0]}, ShapeError, "1 integers"),
])  # fmt: skip
def test_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        viterbi(**({"scores": GOOD, "transitions": MOVES} | arguments))
