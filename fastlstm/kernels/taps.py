"""Which rows the taps of sliding windows see, and the other way round: which windows see a row.

Letters: K taps of a window, R windows (rows of the output), M rows of the input, N sequences, T steps. Row n of a step
belongs to the n-th longest sequence.
"""

from ..simd.jit import jit

__all__ = ["find_taps", "turn_taps"]


@jit
def find_taps(begins, apart, lengths, before, out_begins, stride, dilation, taps, begin, end):
    """Write which row each tap of the windows of the steps from `begin` to `end` sees, and -1 in the padding.

    begins      (T,) or more int64, in: first row of each step of the input
    apart                    how many rows lie between those of one sequence and the next at a step
    lengths     (N,)         int64, in: longest first
    before      (N,)         int64, in: steps of padding before each sequence
    out_begins  (T_out + 1,) int64, in: first row of each step of the output, and R
    taps        (K, R)       int64, out
    """
    alike = True  # whether all sequences have as much padding: then a tap sees the same step of all
    for n in range(len(before)):
        alike = alike and before[n] == before[0]
    for step in range(begin, end):
        first = out_begins[step]
        count = out_begins[step + 1] - first
        for k in range(taps.shape[0]):
            moved = step * stride + k * dilation
            t = moved - before[0]
            if alike and t >= 0:
                row = begins[t] if t < lengths[0] else 0
                for n in range(count):
                    taps[k, first + n] = row + n * apart if t < lengths[n] else -1
                continue
            for n in range(count):
                t = moved - before[n]
                taps[k, first + n] = begins[t] + n * apart if 0 <= t < lengths[n] else -1


@jit
def turn_taps(taps, windows, begin, end):
    """Write which window sees each row by each of the taps from `begin` to `end`, and -1 where none does.

    taps     (K, R)  int64, in: as of `find_taps`
    windows  (K, M)  int64, out
    """
    for k in range(begin, end):
        for row in range(windows.shape[1]):
            windows[k, row] = -1
        for r in range(taps.shape[1]):
            row = taps[k, r]
            if row >= 0:
                windows[k, row] = r
