"""Few sequences on several cores of the pool: they share the units. Inference and BPTT."""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernels import gemm
from ..kernels.recurrent.meeting import PROGRESS_WORDS
from ..kernels.recurrent.unit_parallel import unit_parallel_loops
from ..runtime import config
from ..runtime.pool import cut, num_chunks, parallel_for
from ..runtime.workspace import temporary
from .geometry import BatchShape, Geometry
from .weights import BackwardWeights, PackedWeights

__all__ = ["UnitsCut", "backward", "cut_units", "forward"]


class UnitsCut(NamedTuple):
    """How the units of whole sequences go over cores."""

    parts: int
    bounds: NDArray[np.int64]  # panels of each core
    height: int  # rows of a chunk
    each: int  # elements of scratch that each core needs


def cut_units(geometry: Geometry, batch: BatchShape, parts: int) -> UnitsCut:
    """Cut the units for the sequences of a batch over so many cores."""
    return _cut_units(
        geometry.panels, geometry.panel_width, geometry.cell.is_apart, batch.sequences, batch.total, parts
    )


@lru_cache(maxsize=256)
def _cut_units(panels: int, width: int, is_apart: bool, count: int, total: int, parts: int) -> UnitsCut:
    bounds = np.array(cut(panels, parts))
    widest = int(np.diff(bounds).max()) * width
    height = max(count, min(config.TUNED.chunk_gates // widest, total))
    # a call that finds the pool busy runs all panels itself
    size = max((height + count) * widest, height * panels * width) + (count * width if is_apart else 0)
    return UnitsCut(parts, bounds, height, -(-size // 16) * 16)


config.forget_with(_cut_units.cache_clear)


def forward(
    geometry: Geometry,
    batch: BatchShape,
    arrays: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    weights: PackedWeights,
    kept: tuple[NDArray[Any], NDArray[Any]],
    cost: float,
) -> None:
    """Run all steps; `kernels.recurrent.unit_parallel` says what the arrays x, hidden and cells, and `kept`, are."""
    parts = num_chunks(cost, geometry.panels)
    units = cut_units(geometry, batch, parts)
    gates, apart = kept
    with temporary(parts * units.each, geometry.dtype) as memory:
        parallel_for(
            unit_parallel_loops(geometry.cell).forward,
            *(*arrays, geometry.units, batch.batch_sizes, tuple(weights[:5]), (gates.reshape(-1), apart.reshape(-1))),
            *((units.bounds, np.zeros(parts * PROGRESS_WORDS, np.int64)), units.height),
            count=geometry.panels,
            cost=cost,
            each=[memory[part * units.each : (part + 1) * units.each] for part in range(parts)],
        )


def backward(
    geometry: Geometry,
    batch: BatchShape,
    saved: tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]],
    gradients: tuple[NDArray[Any], NDArray[Any]],
    weights: BackwardWeights,
    out: tuple[NDArray[Any], NDArray[Any], NDArray[Any]],
    cost: float,
) -> None:
    """Go back through all steps; `kernels.recurrent.unit_parallel` says what the arrays are. `gradients`: dy and dc."""
    dy, dc = gradients
    panels = gemm.panels(geometry.units, geometry.dtype)
    parts = num_chunks(cost, panels)
    bounds = np.array(cut(panels, parts))
    each = -(-batch.sequences * geometry.padded_units // 16) * 16
    with temporary(parts * each, geometry.dtype) as memory:
        memory[: parts * each] = 0.0
        parallel_for(
            unit_parallel_loops(geometry.cell).backward,
            *(saved, dy, geometry.units, batch.batch_sizes, dc, weights[:2], out),
            (bounds, np.zeros(parts * PROGRESS_WORDS, np.int64)),
            count=panels,
            cost=cost,
            each=[memory[part * each : (part + 1) * each] for part in range(parts)],
        )
