"""The peers of every kind of cell agree with one another, so that a new layer of ours meets them at once."""

from functools import partial

import pytest

from bench import cells
from bench.contenders import contenders
from fastlstm.benchmark.cells import OURS, Cell
from fastlstm.benchmark.compare import prepare
from fastlstm.benchmark.problems import GATES, Problem, Shape

SHAPE = Shape(3, 5, 4, 8, layers=2, directions=2)


@pytest.mark.parametrize("kind", GATES)
def test_the_peers_compute_the_same(kind):
    peers = [peer for peer in contenders("inference", kind) if peer.name != OURS and not peer.missing]
    if len(peers) < 2:
        pytest.skip("fewer than two peers are installed")
    prepared = prepare(Cell(kind, 1, partial(Problem, SHAPE._replace(kind=kind)), tuple(peers), kind=kind))
    assert not prepared.errors
    assert list(prepared.runners) == [peer.name for peer in peers]


def test_a_layer_that_is_new_has_its_cells(monkeypatch):
    monkeypatch.setattr(cells, "KINDS", ("LSTM", "GRU"))
    monkeypatch.setattr(cells, "thread_counts", lambda: [1, 2])
    shape = Shape(1, 3, 4, 5)
    made = list(cells.recurrent_cells("training", [shape], products=3))
    assert [(cell.kind, cell.threads) for cell in made] == [("LSTM", 1), ("LSTM", 2), ("GRU", 1), ("GRU", 2)]
    assert "torch" in [contender.name for contender in made[2].contenders]
    assert made[2].facts == {"flops": 3 * 2 * 3 * 3 * 5 * (4 + 5), "weight_bytes": 2 * 3 * 4 * 3 * 5 * 5}
    assert made[2].problem().weights["weight_hh_l0"].shape == (15, 5)
