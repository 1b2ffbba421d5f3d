"""Outputs are compared before anything is timed: who differs has an error, and the others have none."""

import numpy as np
import pytest

from fastlstm.benchmark.cells import Cell, Contender, Runner
from fastlstm.benchmark.compare import prepare
from fastlstm.errors import DifferentOutputError


def contender(name, *values, **options):
    """Return a contender whose calls give these values, one after the other."""

    def make(problem, threads):
        calls = iter([*values, *[values[-1]] * 10])
        return Runner(lambda: next(calls), lambda y: {"y": np.array(y)})

    return Contender(name, make, **options)


def cell(*contenders, **options):
    return Cell("shape", 1, dict, contenders, **options)


OURS = contender("fastlstm", [1.0, 2.0])


@pytest.mark.parametrize("value", [[1.0, 2.1], [1.0, np.nan], [1.0]])
def test_a_contender_that_computes_something_else_is_not_timed(value):
    prepared = prepare(cell(OURS, contender("wrong", value), contender("right", [1.0, 2.0])))
    assert list(prepared.runners) == ["fastlstm", "right"]
    assert list(prepared.errors) == ["wrong"]
    with pytest.raises(DifferentOutputError, match="shape: wrong differs from fastlstm in 'y' by"):
        raise prepared.errors["wrong"]


def test_a_missing_output_is_a_difference():
    other = Contender("peer", lambda problem, threads: Runner(lambda: 1.0, lambda y: {"z": y}))
    assert isinstance(prepare(cell(OURS, other)).errors["peer"], DifferentOutputError)


def test_the_tolerance_is_relative_to_the_largest_value():
    prepared = prepare(cell(OURS, contender("near", [1.0 + 1.9e-3, 2.0]), tolerance=1e-3))
    assert "near" in prepared.runners
    assert "near" in prepare(cell(OURS, contender("near", [1.0 + 2.1e-3, 2.0]), tolerance=1e-3)).errors


def test_later_calls_are_compared_too():
    peer = contender("peer", [1.0, 2.0], [1.0, 2.0], [9.0, 2.0])
    assert "peer" in prepare(cell(OURS, peer, checks=2)).runners
    assert "peer" in prepare(cell(OURS, peer, checks=3)).errors


def test_an_error_of_a_peer_stops_no_other_but_one_of_ours_does():
    def broken(problem, threads):
        raise ValueError("not this shape")

    prepared = prepare(cell(OURS, Contender("peer", broken)))
    assert str(prepared.errors["peer"]) == "not this shape"
    with pytest.raises(ValueError, match="not this shape"):
        prepare(cell(Contender("fastlstm", broken), OURS))


def test_who_is_not_asked_for_or_not_installed_is_not_made():
    absent = contender("absent", [1.0, 2.0], packages=("no_such_library",))
    prepared = prepare(cell(OURS, contender("a", [0.0]), contender("b", [1.0, 2.0]), absent), names=["b", "absent"])
    assert list(prepared.runners) == ["fastlstm", "b"]
    assert not prepared.errors
