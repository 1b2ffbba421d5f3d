"""Embedding: gather rows of a table by id, and add gradients up into it."""

from ..simd.jit import jit

__all__ = ["gather", "scatter_add"]


@jit
def gather(table, ids, out, begin, end):
    """Write ``out[m] = table[ids[m]]`` for the rows m from `begin` to `end`.

    table  (V, E)  float, in
    ids    (M,)    integer, in: 0 to V - 1
    out    (M, E)  float, out
    """
    for m in range(begin, end):
        row = ids[m]
        for c in range(table.shape[1]):
            out[m, c] = table[row, c]


@jit
def scatter_add(dy, ids, dtable, begin, end):
    """Add ``dy[m]`` to ``dtable[ids[m]]`` in the order of m, for the columns from `begin` to `end`.

    Cores share columns, not rows: two rows with one id never meet, and the order of the sum stays the same.

    dy      (M, E)  float, in
    ids     (M,)    integer, in: 0 to V - 1
    dtable  (V, E)  float, in/out
    """
    for m in range(len(ids)):
        row = ids[m]
        for c in range(begin, end):
            dtable[row, c] += dy[m, c]
