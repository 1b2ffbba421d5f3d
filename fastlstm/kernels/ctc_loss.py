"""CTC: minus the log-probability of a label string, summed over all its alignments, and the gradient.

Graves et al. 2006; ``docs/ctc_loss.md`` derives the numbered lines. Of a string of L labels, ``a[j]`` belongs to
label j and ``b[j]`` to the blank before it, j from 0 to L (``b[L]`` is the last blank, ``a[L]`` and ``a[-1]`` are 0).
``skip[j]`` is 1 where label j differs from label j - 1, else 0; ``p`` are the probabilities at step t::

    1  A[j] = a[j] + b[j] + skip[j]*a[j-1]          a[j] = A[j]*p[label j]         forward, t = 0, 1, ..
    2  B[j] = b[j] + a[j-1]                         b[j] = B[j]*p[blank]           (right: those of step t - 1)
    3  P    = b[L] + a[L-1]                         loss = -log P                  behind the last step
    4  q[j] = (q[j] + r[j+1] + skip[j+1]*q[j+1])*p[label j]                        backward, t = T-1, T-2, ..
    5  r[j] = (r[j] + q[j])*p[blank]                                               (right: those of step t + 1)
    6  posterior of label j = A[j]*q[j]/P, of blank j = B[j]*r[j]/P
    7  d loss / d z[k] = p[k] - sum of the posteriors of class k                   for logits z
       d loss / d p[k] = -(sum of the posteriors of class k) / p[k]

Before the first step b[0] is 1 and all else 0; behind the last, r[L] is. So no step is a special case. The numbers of
the recursions are wide (``wide.py``): they never underflow, however long the sequence or sure the model is, and no
line of 1 to 6 takes an exponential or a logarithm. A step computes the positions that t steps can reach and from which
the others can finish, rounded to whole registers.

Lines 4 to 7 need what lines 1 and 2 left of each step. Of a sequence too long for the memory given, only every so
many steps keep a and b, and lines 1 and 2 run once more from there: the same bits, from less memory.

One sequence at a time: its result depends on nothing else in the batch. M rows, N sequences, V classes.
"""

import math
from typing import Any, NamedTuple

import numpy as np

from ..simd.across import hsum
from ..simd.jit import jit, jit_inner
from ..simd.vector import lanes_of, lanewise, load, splat, store, vmax
from .softmax import exponentials, largest, scale_row
from .wide import NEVER, ZERO, exp_exponent, exp_significand, exponent_of, scaled, significand_of

__all__ = ["ctc_gradients", "ctc_losses", "memory_for"]

_UNFELT = 2.0**-80
"""A posterior below this is 0 in the gradient of logits: float32 products of it would be denormal numbers."""


class _String(NamedTuple):
    """One sequence with its labels, as the parts of the kernels pass it on."""

    z: Any  # output of the whole batch, 1-D
    classes: int
    rows: Any
    place: int  # n
    steps: int
    labels: Any
    first: int  # of its labels
    label_count: int  # L
    blank: int
    fused: bool
    width: int  # positions, L + 1 and one for the probability of the blank, in whole registers


def _width(count: int, lanes: int) -> int:
    return (count + 2 + lanes - 1) // lanes * lanes


def _sizes(width: int, lanes: int) -> tuple[int, int]:
    """Return the numbers that the state takes (a, b and skip, with a register of 0 on both sides), and a record.

    A record is A, B and the probabilities of one step, and the sum of the row's exponentials.
    """
    return 5 * (width + 2 * lanes), 6 * width + lanes


def _root(steps: int) -> int:
    return int(math.sqrt(steps)) + 1


def memory_for(steps: int, count: int, gradient: bool, lanes: int, most: int) -> int:
    """Return how many float64 a sequence of so many steps and labels needs; `lanes` are those of a float64 register.

    For a gradient: records of all steps if they are at most so many, else of as many steps as that, or as can do.
    """
    width = _width(count, lanes)
    state, record = _sizes(width, lanes)
    if not gradient:
        return state + record
    return state + min(steps * record, max(_root(steps) * (record + state), most))


_width_in, _sizes_in, _root_in = jit_inner(_width), jit_inner(_sizes), jit_inner(_root)


@lanewise
def _felt(x, bound):
    """``_felt(x, bound)``: x, or 0 where it is below the bound."""
    return x.zero_below(bound)


@jit_inner
def _start(memory, width, place):
    """Make all positions 0, but for the blank before label `place`, which becomes 1."""
    lanes = lanes_of(memory)
    stride = width + 2 * lanes
    for i in range(stride):
        memory[i] = memory[2 * stride + i] = 1.0
        memory[stride + i] = memory[3 * stride + i] = ZERO
    memory[3 * stride + lanes + place] = 0.0


@jit_inner
def _mark_repeats(memory, one):
    """Write the exponents of ``skip``: 0 for 1, `ZERO` for 0."""
    lanes = lanes_of(memory)
    skip = 4 * (one.width + 2 * lanes) + lanes
    for i in range(skip - lanes, skip + one.width + lanes):
        memory[i] = ZERO
    for j in range(1, one.label_count):
        if one.labels[one.first + j] != one.labels[one.first + j - 1]:
            memory[skip + j] = 0.0


@jit_inner
def _probabilities(memory, record, one, row, keep):
    """Write the probabilities of the labels, and in the last place the blank's, as wide numbers; return NaN for NaN.

    Of logits also the sum of the exponentials of the row, which take its place if `keep`.
    """
    lanes = lanes_of(memory)
    z, width = one.z, one.width
    p = record + 4 * width
    for j in range(one.label_count):
        memory[p + j] = z[row + one.labels[one.first + j]]
    for j in range(one.label_count, width):
        memory[p + j] = z[row + one.blank]
    check = splat(memory, 0.0)
    if one.fused:
        highest = largest(z, row, one.classes)
        total = exponentials(z, row, one.classes, highest, keep)
        memory[record + 6 * width] = total
        high, log_total = splat(memory, highest), splat(memory, math.log(total))
        for i in range(p, p + width, lanes):
            x = load(memory, i) - high - log_total
            check = check + x
            store(memory, i, exp_significand(x))
            store(memory, i + width, exp_exponent(x))
    else:
        least = splat(memory, np.finfo(z.dtype).tiny)
        for i in range(p, p + width, lanes):
            x = vmax(load(memory, i), least)
            check = check + x
            store(memory, i, significand_of(x))
            store(memory, i + width, exponent_of(x))
    return hsum(check)


@jit_inner
def _forward(memory, record, width, low, high):
    """Take one step forward at positions `low` to `high` - 1; leave A and B in the record."""
    lanes = lanes_of(memory)
    stride = width + 2 * lanes
    p = record + 4 * width
    blank_m, blank_e = splat(memory, memory[p + width - 1]), splat(memory, memory[p + 2 * width - 1])
    # downwards: what stands at j - 1 is read before it is written
    for j in range((high - 1) // lanes * lanes, low // lanes * lanes - 1, -lanes):
        a, b, skip, kept = lanes + j, lanes + j + 2 * stride, lanes + j + 4 * stride, record + j
        b_m, b_e = load(memory, b), load(memory, b + stride)
        before_m, before_e = load(memory, a - 1), load(memory, a - 1 + stride)
        a_e, skip_e = load(memory, a + stride), before_e + load(memory, skip)
        e = vmax(vmax(a_e, b_e), skip_e)
        m = scaled(load(memory, a), a_e - e) + scaled(b_m, b_e - e) + scaled(before_m, skip_e - e)  # 1
        store(memory, kept, m)
        store(memory, kept + width, e)
        m = m * load(memory, p + j)
        store(memory, a, significand_of(m))
        store(memory, a + stride, e + load(memory, p + width + j) + exponent_of(m))
        e = vmax(b_e, before_e)
        m = scaled(b_m, b_e - e) + scaled(before_m, before_e - e)  # 2
        store(memory, kept + 2 * width, m)
        store(memory, kept + 3 * width, e)
        m = m * blank_m
        store(memory, b, significand_of(m))
        store(memory, b + stride, e + blank_e + exponent_of(m))


@jit_inner
def _backward(memory, record, width, low, high, total, least):
    """Take one step backward; leave the labels' posteriors in the record and return the sum of the blanks'.

    ``total[0] * 2**-total[1]`` is 1 / P; posteriors of labels below `least` become 0.
    """
    lanes = lanes_of(memory)
    stride = width + 2 * lanes
    p = record + 4 * width
    blank_m, blank_e = splat(memory, memory[p + width - 1]), splat(memory, memory[p + 2 * width - 1])
    over_m, over_e, bound = splat(memory, total[0]), splat(memory, total[1]), splat(memory, least)
    blanks = splat(memory, 0.0)
    for j in range(low // lanes * lanes, high, lanes):
        q, r, skip, kept = lanes + j, lanes + j + 2 * stride, lanes + j + 4 * stride, record + j
        q_m, q_e = load(memory, q), load(memory, q + stride)
        r_m, r_e = load(memory, r), load(memory, r + stride)
        after_e, skip_e = load(memory, r + 1 + stride), load(memory, q + 1 + stride) + load(memory, skip + 1)
        e = vmax(vmax(q_e, after_e), skip_e)
        m = scaled(q_m, q_e - e) + scaled(load(memory, r + 1), after_e - e) + scaled(load(memory, q + 1), skip_e - e)
        m, e = m * load(memory, p + j), e + load(memory, p + width + j)  # 4
        posterior = scaled(load(memory, kept) * over_m * m, load(memory, kept + width) - over_e + e)  # 6
        store(memory, kept, _felt(posterior, bound))
        store(memory, q, significand_of(m))
        store(memory, q + stride, e + exponent_of(m))
        e = vmax(q_e, r_e)
        m, e = (scaled(q_m, q_e - e) + scaled(r_m, r_e - e)) * blank_m, e + blank_e  # 5
        kept = kept + 2 * width
        blanks = blanks + scaled(load(memory, kept) * over_m * m, load(memory, kept + width) - over_e + e)  # 6
        store(memory, r, significand_of(m))
        store(memory, r + stride, e + exponent_of(m))
    return hsum(blanks)


@jit_inner
def _bounds(one, t):
    """Return the first position from which the steps after t can finish, and the last that t steps reach, plus 1."""
    return max(0, one.label_count - one.steps + t), min(one.label_count, t) + 1


@jit_inner
def _walk(memory, one, begin, end, keep):
    """Go forward from step `begin` to `end` - 1; with `keep` each step has a record. Return NaN if a row holds NaN."""
    state, size = _sizes_in(one.width, lanes_of(memory))
    check = 0.0
    for t in range(begin, end):
        record = state + (t - begin) * size if keep else state
        low, high = _bounds(one, t)
        check += _probabilities(memory, record, one, (one.rows[t] + one.place) * one.classes, keep)
        _forward(memory, record, one.width, low, high)
    return check


@jit_inner
def _shifted(m, n):
    """Return ``m * 2**n`` of n <= 0."""
    return math.ldexp(m, int(max(n, -1100.0)))


@jit_inner
def _total(memory, one):
    """Return P as a wide number."""
    lanes = lanes_of(memory)
    stride = one.width + 2 * lanes
    a, b = lanes + one.label_count - 1, lanes + one.label_count + 2 * stride
    e = max(memory[a + stride], memory[b + stride])
    return _shifted(memory[a], memory[a + stride] - e) + _shifted(memory[b], memory[b + stride] - e), e  # 3


@jit_inner
def _loss(one, check, m, e):
    """Return -log P; NaN where the output holds one, infinity where no alignment exists."""
    if math.isnan(check):
        return check
    if one.steps < one.label_count or e < NEVER:
        return math.inf
    return 0.0 - (e * math.log(2.0) + math.log(m))


@jit
def ctc_losses(output, rows, lengths, labels, starts, blank, fused, losses, memory, begin, end):
    """Write the loss of the sequences begin to end - 1.

    output   (M, V)     float, contiguous, in: logits if `fused`, else probabilities (0 counts as the smallest number)
    rows     (T + 1,)   int64, in: the row of sequence n at step t is rows[t] + n
    lengths  (N,)       int64, in: steps of each sequence
    labels   (L,)       int64, in: of all sequences; each in 0 .. V - 1 and not the blank
    starts   (N + 1,)   int64, in: those of sequence n are labels[starts[n]:starts[n + 1]]
    blank               int, in: 0 .. V - 1
    fused               bool, in: whether the softmax is still to be applied
    losses   (N,)       float64, out: -log P; infinity where no alignment exists, NaN where the output holds one
    memory   (size,)    float64, scratch: size >= `memory_for` each of the sequences
    """
    z, classes = output.reshape(-1), output.shape[1]
    for n in range(begin, end):
        count = starts[n + 1] - starts[n]
        width = _width_in(count, lanes_of(memory))
        one = _String(z, classes, rows, n, lengths[n], labels, starts[n], count, blank, fused, width)
        _start(memory, width, 0)
        _mark_repeats(memory, one)
        check = _walk(memory, one, 0, one.steps, False)
        m, e = _total(memory, one)
        losses[n] = _loss(one, check, m, e)


@jit_inner
def _copy(memory, source, target, size):
    for i in range(size):
        memory[target + i] = memory[source + i]


@jit_inner
def _swap(memory, source, target, size):
    for i in range(size):
        memory[target + i], memory[source + i] = memory[source + i], memory[target + i]


@jit_inner
def _kept_state(memory, state, part):
    """Return where the state before a part is kept: from the end of the memory down."""
    return memory.shape[0] - (part + 1) * state


@jit_inner
def _walk_to_the_end(memory, one, part):
    """Go forward through all steps; keep the state before each `part` steps, and records of the last of these parts."""
    state, _ = _sizes_in(one.width, lanes_of(memory))
    check = 0.0
    for begin in range(0, one.steps, part):
        end = min(begin + part, one.steps)
        if part < one.steps:
            _copy(memory, 0, _kept_state(memory, state, begin // part), state)
        check += _walk(memory, one, begin, end, end == one.steps)
    return check


@jit_inner
def _steps_kept(memory, one):
    """Return of how many steps records fit into the memory, beside the states before all parts of so many steps."""
    state, size = _sizes_in(one.width, lanes_of(memory))
    if state + one.steps * size <= memory.shape[0]:
        return one.steps
    return (memory.shape[0] - state * (1 + _root_in(one.steps))) // size


@jit_inner
def _write_gradient(memory, record, one, row, weight, blanks, low, high):
    """Overwrite a row with the gradient, from the posteriors in the record."""
    z = one.z
    if one.fused:  # 7
        scale_row(z, row, one.classes, weight / memory[record + 6 * one.width])
    else:
        tiny = np.float64(np.finfo(z.dtype).tiny)
        for j in range(low, high):
            memory[record + j] /= max(np.float64(z[row + one.labels[one.first + j]]), tiny)
        blanks /= max(np.float64(z[row + one.blank]), tiny)
        z[row : row + one.classes] = 0.0
    for j in range(low, high):
        z[row + one.labels[one.first + j]] -= weight * memory[record + j]
    z[row + one.blank] -= weight * blanks


@jit_inner
def _walk_back(memory, one, part, total, weight):
    """Go backward through all steps and overwrite the rows with the gradient; ``total`` is that of `_backward`."""
    state, size = _sizes_in(one.width, lanes_of(memory))
    last = (one.steps - 1) // part
    _start(memory, one.width, one.label_count)
    for number in range(last, -1, -1):
        begin, end = number * part, min(number * part + part, one.steps)
        if number < last:
            kept = _kept_state(memory, state, number)
            _swap(memory, kept, 0, state)
            _walk(memory, one, begin, end, True)
            _copy(memory, kept, 0, state)
        for t in range(end - 1, begin - 1, -1):
            record, row = state + (t - begin) * size, (one.rows[t] + one.place) * one.classes
            low, high = _bounds(one, t)
            blanks = _backward(memory, record, one.width, low, high, total, _UNFELT if one.fused else 0.0)
            _write_gradient(memory, record, one, row, weight, blanks, low, min(high, one.label_count))


@jit
def ctc_gradients(output, rows, lengths, labels, starts, blank, fused, weights, losses, memory, begin, end):
    """Write the loss of the sequences begin to end - 1, and overwrite their rows with its gradient.

    output   (M, V)     float, contiguous, in/out: gradient of ``weights[n] * losses[n]``; 0 where no alignment exists
    weights  (N,)       float64, in
    memory   (size,)    float64, scratch: size >= `memory_for` each of the sequences, with its gradient

    The other arguments are those of `ctc_losses`; the losses have the same bits, whatever the size of the memory.
    """
    z, classes = output.reshape(-1), output.shape[1]
    for n in range(begin, end):
        count = starts[n + 1] - starts[n]
        width = _width_in(count, lanes_of(memory))
        one = _String(z, classes, rows, n, lengths[n], labels, starts[n], count, blank, fused, width)
        part = _steps_kept(memory, one)
        _start(memory, width, 0)
        _mark_repeats(memory, one)
        check = _walk_to_the_end(memory, one, part)
        m, e = _total(memory, one)
        losses[n] = _loss(one, check, m, e)
        if not math.isfinite(losses[n]):
            for t in range(one.steps):
                row = (rows[t] + n) * classes
                z[row : row + classes] = 0.0 if losses[n] > 0.0 else math.nan
        else:
            _walk_back(memory, one, part, (1.0 / m, e), weights[n])
