"""Pooling over steps: sums and largest values, over all steps of each sequence or over the rows that taps see.

Sums are float64 and compensated: what each addition rounds away is added up beside the total (Knuth's two-sum; Ogita,
Rump and Oishi 2005), so that a million steps cost no digit, of float64 values neither.

What goes over all steps is shared over *columns*: column ``n * F + f`` is feature f of the n-th longest sequence, and
the sequences alive at a step are its first columns, in one piece. So each column is one chain in the order of steps.

Inner loops go over slices from 0 on: LLVM then knows that no index is negative, and takes several values at once.

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
def _add(x, total, rest):
    """Add `x` to the first values of `total`, and what is rounded away to `rest`."""
    for j in range(len(x)):
        before, value = total[j], np.float64(x[j])
        after = before + value
        taken = after - before
        total[j] = after
        rest[j] += (before - (after - taken)) + (value - taken)


@jit_inner
def _sum(total, rest):
    """Return the sum; one that is infinite has no rest."""
    both = total + rest
    return both if both == both else total


@jit_inner
def _take_larger(x, best, index, here):
    """Write `x` over `best`, and `here` over `index`, where it is larger: NaN counts as larger than all else."""
    for j in range(len(x)):
        value, before = x[j], best[j]
        larger = not (value <= before) and before == before
        best[j] = value if larger else before
        index[j] = here if larger else index[j]


@jit
def sum_of_steps(x, begins, sums, rests, begin, end):
    """Write the sums over all steps to the columns from `begin` to `end`.

    x       (M, F)    float, in
    begins  (T + 1,)  int64, in: first row of each step, and M
    sums    (N * F,)  float64, out
    rests   (N * F,)  float64, overwritten
    """
    features = x.shape[1]
    values, total, rest = x.reshape(-1), sums[begin:end], rests[begin:end]
    for c in range(end - begin):
        total[c] = rest[c] = 0.0
    for t in range(len(begins) - 1):
        count = min(end, (begins[t + 1] - begins[t]) * features) - begin
        if count <= 0:
            break
        first = begins[t] * features + begin
        _add(values[first : first + count], total, rest)
    for c in range(end - begin):
        total[c] = _sum(total[c], rest[c])


@jit
def spread_steps(share, begins, dx, begin, end):
    """Write each of the columns from `begin` to `end` to all steps of its sequence.

    share   (N, F)    float, in
    begins  (T + 1,)  int64, in: first row of each step, and M
    dx      (M, F)    float, out
    """
    features = dx.shape[1]
    values, written = share.reshape(-1)[begin:end], dx.reshape(-1)
    for t in range(len(begins) - 1):
        count = min(end, (begins[t + 1] - begins[t]) * features) - begin
        if count <= 0:
            break
        first = begins[t] * features + begin
        step = written[first : first + count]
        for c in range(count):
            step[c] = values[c]


@jit
def largest_of_steps(x, begins, best, step, begin, end):
    """Write the largest value over all steps to the columns from `begin` to `end`, the first of equal ones; NaN wins.

    x       (M, F)    float, in
    begins  (T + 1,)  int64, in: first row of each step, and M
    best    (N * F,)  float, out
    step    (N * F,)  int32, out: the step that it comes from
    """
    features = x.shape[1]
    values, high, index = x.reshape(-1), best[begin:end], step[begin:end]
    for c in range(end - begin):
        high[c] = values[begin + c]
        index[c] = 0
    for t in range(1, len(begins) - 1):
        count = min(end, (begins[t + 1] - begins[t]) * features) - begin
        if count <= 0:
            break
        first = begins[t] * features + begin
        _take_larger(values[first : first + count], high, index, np.int32(t))


@jit
def sum_of_taps(x, taps, mean, out, scratch, begin, end):
    """Write the sum, or the mean, of the rows that each of the windows from `begin` to `end` sees.

    x        (M, F)  float, in
    taps     (K, R)  int64, in: which rows; -1: none
    mean             whether to divide by the number of rows
    out      (R, F)  float, out
    scratch  (2F,)   float64, overwritten; one for each core
    """
    features = x.shape[1]
    values, written, total, rest = x.reshape(-1), out.reshape(-1), scratch[:features], scratch[features : 2 * features]
    for r in range(begin, end):
        for f in range(features):
            total[f] = rest[f] = 0.0
        seen = 0
        for k in range(taps.shape[0]):
            row = taps[k, r]
            if row >= 0:
                _add(values[row * features : (row + 1) * features], total, rest)
                seen += 1
        row, count = written[r * features : (r + 1) * features], np.float64(seen if mean else 1)
        for f in range(features):
            row[f] = _sum(total[f], rest[f]) / count


@jit
def largest_of_taps(x, taps, out, chosen, begin, end):
    """Write the largest value that each of the windows from `begin` to `end` sees, the first of equal ones; NaN wins.

    x       (M, F)  float, in
    taps    (K, R)  int64, in: which rows; -1: none; each window sees one or more
    out     (R, F)  float, out
    chosen  (R, F)  int32, out: the tap that it comes from
    """
    features = x.shape[1]
    values, written, taken = x.reshape(-1), out.reshape(-1), chosen.reshape(-1)
    for r in range(begin, end):
        high, index = written[r * features : (r + 1) * features], taken[r * features : (r + 1) * features]
        seen = False
        for k in range(taps.shape[0]):
            if taps[k, r] < 0:
                continue
            place = taps[k, r] * features
            row = values[place : place + features]
            if seen:
                _take_larger(row, high, index, np.int32(k))
                continue
            for f in range(features):
                high[f] = row[f]
                index[f] = k
            seen = True


@jit
def sum_of_largest(dy, chosen, windows, dx, scratch, begin, end):
    """Write the gradient of the rows from `begin` to `end`: the sum of those of the windows that chose them.

    dy       (R, F)  float, in
    chosen   (R, F)  int32, in: as of `largest_of_taps`
    windows  (K, M)  int64, in: which window sees a row by each tap; -1: none
    dx       (M, F)  float, out
    scratch  (F,)    float64, overwritten; one for each core
    """
    features = dx.shape[1]
    gradients, taken, written, total = dy.reshape(-1), chosen.reshape(-1), dx.reshape(-1), scratch[:features]
    for m in range(begin, end):
        for f in range(features):
            total[f] = 0.0
        for k in range(windows.shape[0]):
            if windows[k, m] < 0:
                continue
            place, tap = windows[k, m] * features, np.int32(k)
            gradient, index = gradients[place : place + features], taken[place : place + features]
            for f in range(features):
                total[f] += gradient[f] if index[f] == tap else 0.0
        row = written[m * features : (m + 1) * features]
        for f in range(features):
            row[f] = total[f]
