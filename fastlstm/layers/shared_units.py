"""Few sequences, or single steps, on several cores: they share the units of a step."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..data.packed import Packed, writeable
from ..kernels import gemm, team
from ..kernels.lstm_split import PROGRESS_STRIDE, backward_split, forward_split
from ..kernels.scratch import borrowed
from ..simd.host import REGISTERS

__all__ = [
    "StepCut",
    "backward",
    "chunk_of",
    "cost_of",
    "cut_of_sequences",
    "cut_of_step",
    "few",
    "forward",
    "worth_it",
]

_CHUNK_ELEMENTS = 1 << 17
"""Gate values that inference computes at once: they stay in the L2 cache until their steps have read them."""

_FEW, _FEW_FOR_TWO = 4, 6
"""Sequences from which on cores share the sequences rather than the units. Of 4 and 5, two cores would have but 2 rows
for a tile: 4,10,128,384 took 455 us and takes 380, 4,200,32,256 4.0 and 2.9 ms. With more cores nothing is known."""

_STEPS = 8
"""Steps of a whole sequence below which the other core would come too late for its share of the units."""

_WEIGHTS = 1 << 17
"""Recurrent weights from which on sharing the units of a step pays for meeting after it. 128 units have half as many:
they gain a fifth where both cores are free, and take twice the time where a neighbour has one of them."""


_STEP_OF_A_CORE, _CHUNK, _MOST_CHUNKS = 10_000.0, 3_000.0, 8
"""Of a single step: nanoseconds that each core shall have to do at least, and a chunk of it, which is a microsecond's
work to give out; and chunks of a core."""

_NS_PER_BYTE = 0.0125
"""Of weights that a single step reads: 80 GB/s, the L3 cache's."""


def cost_of(rows: int, units: int, features: int) -> float:
    """Estimate the nanoseconds of arithmetic, on one core, of `rows` steps that read so many features besides h."""
    return 0.08 * rows * units * (units + features + 32)


class SequencesCut(NamedTuple):
    """How the units of whole sequences go over cores."""

    parts: int
    bounds: NDArray[np.int64]  # blocks of each core
    height: int  # rows of a chunk
    each: int  # elements of scratch that each core needs


@lru_cache(maxsize=256)
def cut_of_sequences(count: int, total: int, stride: int, dtype: np.dtype[Any], parts: int) -> SequencesCut:
    """Cut the units for `count` sequences of `total` rows over so many cores."""
    lanes = REGISTERS.lanes(dtype.itemsize)
    blocks = stride // lanes
    bounds = np.array(team.cut(blocks, parts))
    widest = int(np.diff(bounds).max()) * 4 * lanes
    height = max(count, min(_CHUNK_ELEMENTS // widest, total))
    # a call that finds the team busy runs all blocks itself
    return SequencesCut(parts, bounds, height, -(-max((height + count) * widest, height * 4 * stride) // 16) * 16)


class StepCut(NamedTuple):
    """How a single step goes over cores, while the number of threads is this one."""

    threads: int
    cores: int
    chunks: int  # of each core
    cost: float  # in nanoseconds on one


def cut_of_step(batch: int, units: int, features: int, itemsize: int) -> StepCut:
    """Return over how many cores a single step goes, for the threads of now."""
    threads = team.get_num_threads()
    # its arithmetic, or reading the weights
    cost = max(cost_of(batch, units, features), _NS_PER_BYTE * itemsize * 4 * units * (units + features))
    blocks = -(-units // REGISTERS.lanes(itemsize))
    cores = max(1, min(threads, 1 + team.MOST_FOLLOWERS, blocks, int(cost / _STEP_OF_A_CORE)))
    chunks = max(1, min(_MOST_CHUNKS, blocks // cores, int(cost / cores / _CHUNK)))
    return StepCut(threads, cores, chunks, cost)


def chunk_of(count: int, total: int, stride: int) -> int:
    """Return the rows of a chunk for `count` sequences of `total` rows, on cores that share the sequences."""
    return max(count, min(_CHUNK_ELEMENTS // (4 * stride), total))


def few(count: int, threads: int) -> bool:
    """Tell whether so many sequences are too few to be shared."""
    return count < (_FEW_FOR_TWO if threads == 2 else _FEW)


def worth_it(count: int, steps: int, units: int, stride: int, cost: float) -> bool:
    """Tell whether cores shall share the units for such a batch; `cost` is that of the steps, in nanoseconds."""
    if not few(count, team.get_num_threads()) or steps < _STEPS or 4 * stride * units < _WEIGHTS:
        return False
    return team.threads_for(cost, 2) > 1


def forward(
    x: Packed,
    hidden: NDArray[Any],
    cells: NDArray[Any],
    units: int,
    weights: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    kept: NDArray[Any],
    cost: float,
) -> None:
    """Run all steps of `x`; `kernels.lstm_split.forward_split` says what the arrays are."""
    stride = cells.shape[1]
    parts = team.threads_for(cost, stride // REGISTERS.lanes(cells.itemsize))
    cut = cut_of_sequences(x.sequences, x.total, stride, cells.dtype, parts)
    with borrowed(cut.parts * cut.each, cells.dtype) as memory:
        team.share(
            forward_split,
            *(writeable(np.ascontiguousarray(x.rows)), hidden, cells, units, x.batch_sizes, *weights),
            *(kept.reshape(-1), cut.bounds, np.zeros(cut.parts * PROGRESS_STRIDE, np.int64), cut.height),
            count=int(cut.bounds[-1]),
            cost=cost,
            each=[memory[part * cut.each :] for part in range(cut.parts)],
        )


def backward(
    gates: NDArray[Any],
    dy: NDArray[Any],
    units: int,
    batch_sizes: NDArray[np.int64],
    cells: NDArray[Any],
    dc: NDArray[Any],
    transposed: NDArray[Any],
    da: NDArray[Any],
    dcs: NDArray[Any],
    cost: float,
) -> None:
    """Go back through all steps; `kernels.lstm_split.backward_split` says what the arrays are."""
    panels = gemm.panels(units, gates.dtype)
    parts = team.threads_for(cost, panels)
    bounds = np.array(team.cut(panels, parts))
    each = -(-dc.size // 16) * 16
    with borrowed(parts * each, gates.dtype) as memory:
        memory[: parts * each] = 0.0
        team.share(
            backward_split,
            *(gates, dy, units, batch_sizes, cells, dc, transposed, da, dcs),
            *(bounds, np.zeros(parts * PROGRESS_STRIDE, np.int64)),
            count=panels,
            cost=cost,
            each=[memory[part * each :] for part in range(parts)],
        )
