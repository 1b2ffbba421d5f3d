"""Pooling over steps: sums and largest values, over all steps of each sequence or over the rows that taps see.

Sums are float64. Those of float64 values are compensated: what each addition rounds away is added up beside the total
(Knuth's two-sum; Ogita, Rump and Oishi 2005), so that a million steps cost no digit in either type.

What goes over all steps is shared over *columns*: column ``n * F + f`` is feature f of the n-th longest sequence, and
the sequences alive at a step are its first columns, in one piece. So each column is one chain in the order of steps.

Letters: N sequences, T steps, F features, M rows; K taps, R windows.
"""

import numpy as np

from ..simd.jit import jit, jit_inner

__all__ = [
    "largest_of_steps",
    "largest_of_taps",
    "spread_steps",
    "sum_of_largest",
    "sum_of_steps",
    "sum_of_taps",
]


@jit_inner
def _add(x, i, totals, c, count, rest):
    """Add ``x[i + j]`` to ``totals[c + j]`` for the j below `count`.

    What is rounded away is added `rest` places later; 0: nowhere.
    """
    if rest:
        for j in range(count):
            before, value = totals[c + j], np.float64(x[i + j])
            after = before + value
            taken = after - before
            totals[c + j] = after
            totals[rest + c + j] += (before - (after - taken)) + (value - taken)
    else:
        for j in range(count):
            totals[c + j] += x[i + j]


@jit_inner
def _clear(totals, c, count, rest):
    """Write zeros before `count` values are added up."""
    for j in range(count):
        totals[c + j] = 0.0
        totals[rest + c + j] = 0.0


@jit_inner
def _sum(totals, c, rest):
    """Return a sum with its rest; an infinite one has none."""
    if rest:
        value = totals[c] + totals[rest + c]
        return value if value == value else totals[c]
    return totals[c]


@jit
def sum_of_steps(x, begins, totals, rest, begin, end):
    """Write the sums over all steps to the columns from `begin` to `end`.

    x       (M, F)    float, in
    begins  (T + 1,)  int64, in: first row of each step, and M
    totals  (S,)      float64, out: N * F sums; behind them, for compensated ones, as many values that are overwritten
    rest              how many places later those are; 0: the sums are plain
    """
    features = x.shape[1]
    values = x.reshape(-1)
    _clear(totals, begin, end - begin, rest)
    for t in range(len(begins) - 1):
        count = min(end, (begins[t + 1] - begins[t]) * features) - begin
        if count <= 0:
            break
        _add(values, begins[t] * features + begin, totals, begin, count, rest)
    for c in range(begin, end):
        totals[c] = _sum(totals, c, rest)


@jit
def spread_steps(share, begins, dx, begin, end):
    """Write each of the columns from `begin` to `end` to all steps of its sequence.

    share   (N, F)    float, in
    begins  (T + 1,)  int64, in: first row of each step, and M
    dx      (M, F)    float, out
    """
    features = dx.shape[1]
    values, written = share.reshape(-1), dx.reshape(-1)
    for t in range(len(begins) - 1):
        place = begins[t] * features
        for c in range(begin, min(end, (begins[t + 1] - begins[t]) * features)):
            written[place + c] = values[c]


@jit
def largest_of_steps(x, begins, best, step, begin, end):
    """Write the largest value over all steps to the columns from `begin` to `end`, the first of equal ones; NaN wins.

    x       (M, F)    float, in
    begins  (T + 1,)  int64, in: first row of each step, and M
    best    (N * F,)  float, out
    step    (N * F,)  int64, out: the step that it comes from
    """
    features = x.shape[1]
    values = x.reshape(-1)
    for c in range(begin, end):
        best[c] = values[c]
        step[c] = 0
    for t in range(1, len(begins) - 1):
        place = begins[t] * features
        for c in range(begin, min(end, (begins[t + 1] - begins[t]) * features)):
            value = values[place + c]
            if not (value <= best[c]) and best[c] == best[c]:
                best[c] = value
                step[c] = t


@jit
def sum_of_taps(x, taps, mean, out, rest, totals, begin, end):
    """Write the sum, or the mean, of the rows that each of the windows from `begin` to `end` sees.

    x       (M, F)  float, in
    taps    (K, R)  int64, in: which rows; -1: none
    mean    whether to divide by the number of rows
    out     (R, F)  float, out
    rest            F for compensated sums, 0 for plain ones
    totals  (S,)    float64, overwritten: room for F + rest values; one for each core
    """
    features = x.shape[1]
    values = x.reshape(-1)
    for r in range(begin, end):
        seen = 0
        _clear(totals, 0, features, rest)
        for k in range(taps.shape[0]):
            row = taps[k, r]
            if row >= 0:
                _add(values, row * features, totals, 0, features, rest)
                seen += 1
        count = np.float64(seen) if mean else 1.0
        for f in range(features):
            out[r, f] = _sum(totals, f, rest) / count


@jit
def largest_of_taps(x, taps, out, chosen, begin, end):
    """Write the largest value that each of the windows from `begin` to `end` sees, the first of equal ones; NaN wins.

    x       (M, F)  float, in
    taps    (K, R)  int64, in: which rows; -1: none; each window sees one or more
    out     (R, F)  float, out
    chosen  (R, F)  int32, out: the tap that it comes from
    """
    features = x.shape[1]
    for r in range(begin, end):
        first = True
        for k in range(taps.shape[0]):
            row = taps[k, r]
            if row < 0:
                continue
            if first:
                for f in range(features):
                    out[r, f] = x[row, f]
                    chosen[r, f] = k
                first = False
                continue
            for f in range(features):
                value, best = x[row, f], out[r, f]
                if not (value <= best) and best == best:
                    out[r, f] = value
                    chosen[r, f] = k


@jit
def sum_of_largest(dy, chosen, windows, dx, total, begin, end):
    """Write the gradient of the rows from `begin` to `end`: the sum of those of the windows that chose them.

    dy       (R, F)  float, in
    chosen   (R, F)  int32, in: as of `largest_of_taps`
    windows  (K, M)  int64, in: which window sees a row by each tap; -1: none
    dx       (M, F)  float, out
    total    (F,)    float64, overwritten; one for each core
    """
    features = dx.shape[1]
    for row in range(begin, end):
        for f in range(features):
            total[f] = 0.0
        for k in range(windows.shape[0]):
            r = windows[k, row]
            if r >= 0:
                for f in range(features):
                    total[f] += dy[r, f] if chosen[r, f] == k else 0.0
        for f in range(features):
            dx[row, f] = total[f]
