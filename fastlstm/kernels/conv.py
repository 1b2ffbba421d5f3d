"""Convolutions over steps: rows by the taps of windows, gathered into a block that stays in the cache, then multiplied.

Letters: K taps of a window, R windows, F features, M rows. The rows that a window sees rise or fall tap by tap, and
what is in the padding comes before or after them.
"""

from ..simd.denormals import flush, restore
from ..simd.jit import jit, jit_inner
from ..simd.tile import COLUMNS
from ..simd.vector import lanes_of, load, load_n, splat, store, store_n
from .gemm.tiles import ONE_GROUP, START, panel_products

__all__ = ["gather_ring", "gather_taps", "product_of_taps", "sum_of_windows"]

_all_panels = panel_products(COLUMNS).all_panels


@jit_inner
def _copy(x, i, count, out, o):
    """Copy `count` values from ``x[i]`` on to ``out[o]`` on."""
    lanes = lanes_of(out)
    rest = count % lanes
    for c in range(0, count - rest, lanes):
        store(out, o + c, load(x, i + c))
    if rest:
        store_n(out, o + count - rest, load_n(x, i + count - rest, rest), rest)


@jit_inner
def _clear(out, o, count):
    """Write `count` zeros from ``out[o]`` on."""
    lanes = lanes_of(out)
    rest = count % lanes
    for c in range(0, count - rest, lanes):
        store(out, o + c, splat(out, 0.0))
    if rest:
        store_n(out, o + count - rest, splat(out, 0.0), rest)


@jit_inner
def _gather(x, features, taps, first, count, out):
    """Write what `count` windows from `first` on see, tap after tap: a row of ``K * features`` values for each."""
    size = taps.shape[0]
    k = size * features
    for r in range(count):
        row, last = taps[0, first + r], taps[size - 1, first + r]
        if row >= 0 and last - row == size - 1:  # rows that follow each other: of one sequence, no step in between
            _copy(x, row * features, k, out, r * k)
            continue
        for tap in range(size):
            row, o = taps[tap, first + r], r * k + tap * features
            if row < 0:
                _clear(out, o, features)
            else:
                _copy(x, row * features, features, out, o)


@jit
def product_of_taps(x, taps, packed, bias, out, scratch, begin, end):
    """Write ``out[r] = bias + sum over k of x[taps[k, r]] @ B_k`` for the windows r from `begin` to `end`.

    Each value is one chain of fused multiply-adds, tap by tap; a tap in the padding adds zeros.

    x        (M, F)            float, in
    taps     (K, R)            int64, in: which row of x; -1: zeros
    packed   (P * K * F * CL,) float, in: B_0 to B_K-1, each (F, N), one below the other, in panels
    bias     (P * CL,)         float, in
    out      (R, N)            float, out
    scratch  (S,)              float, overwritten: room for one window or more, K * F values each; one for each core
    """
    mode = flush()
    k, n = taps.shape[0] * x.shape[1], out.shape[1]
    block = len(scratch) // k
    values, written = x.reshape(-1), out.reshape(-1)
    for first in range(begin, end, block):
        count = min(block, end - first)
        _gather(values, x.shape[1], taps, first, count, scratch)
        left = scratch, START - first * k, START, k, ONE_GROUP
        _all_panels(left, (START + first, START + first + count), packed, k, bias, (written, START, n, n))
    restore(mode)


@jit
def gather_taps(x, taps, first, out, begin, end):
    """Write what the windows from ``first + begin`` to ``first + end`` see to the rows of `out` from `begin` to `end`.

    x     (M, F)        float, in
    taps  (K, R)        int64, in: which row of x; -1: zeros
    out   (any, K * F)  float, out: tap after tap
    """
    written = out.reshape(-1)[begin * out.shape[1] :]
    _gather(x.reshape(-1), x.shape[1], taps, first + begin, end - begin, written)


@jit
def sum_of_windows(columns, windows, dx, begin, end):
    """Write ``dx[m] = sum over k of columns[windows[k, m], k]`` for the rows m from `begin` to `end`.

    columns  (R, K * F)  float, in: tap after tap
    windows  (K, M)      int64, in: which window sees a row by each tap; -1: none
    dx       (M, F)      float, out
    """
    features = dx.shape[1]
    for m in range(begin, end):
        for f in range(features):
            dx[m, f] = 0.0
        for k in range(windows.shape[0]):
            r = windows[k, m]
            if r >= 0:
                for f in range(features):
                    dx[m, f] += columns[r, k * features + f]


@jit
def gather_ring(x, ring, place, dilation, out, begin, end):
    """Write what the window that ends with this step sees of each sequence, then put the step's row into the ring.

    x      (N, F)               float, in: the rows of this step
    ring   (N, (K - 1) * d, F)  float, in/out: the rows before it; the oldest is where the newest goes
    place  (N,)                 int64, in/out: where that is; taken modulo the length of the ring
    out    (N, K * F)           float, out: the rows of the taps, oldest first
    """
    length, features = ring.shape[1], ring.shape[2]
    values, held, gathered = x.reshape(-1), ring.reshape(-1), out.reshape(-1)
    for n in range(begin, end):
        here = place[n] % length
        o = n * out.shape[1]
        for back in range(0, length, dilation):
            slot = (here + back) % length
            _copy(held, (n * length + slot) * features, features, gathered, o)
            o += features
        _copy(values, n * features, features, gathered, o)
        _copy(values, n * features, features, held, (n * length + here) * features)
        place[n] = (here + 1) % length
