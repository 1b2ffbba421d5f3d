"""Attention of query steps over the memory steps of the same pair of sequences, forward and back.

For one pair, with a row q_t for each query step, and for each memory step a row k_s, the key, and a row v_s, the value::

    1  e_ts = q_t . k_s                       dot;  u . tanh(q_t + k_s)  additive
    2  a_ts = exp(e_ts) / sum over s of exp(e_ts)
    3  c_t  = sum over s of a_ts m_ts v_s     m: what dropout left of the weight; 1 without it

A pair's rows stand in the batch far from each other, a sequence's steps being those of its own batch, so they are
brought together first, as panels (below). Only true steps are read: there is no masking, and no -inf. Query steps are
taken in blocks, so that scratch stays small for long sequences.

Every sum is a chain that depends on the sizes of its own pair alone: sums over features go lane by lane (`dots`), those
over steps in the order of the steps. So a pair has the same bits in any batch, a query step has the same bits alone as
among others, and the split over cores changes nothing.

Rows as panels: R rows of F features lie as ``ceil(F / W)`` panels of R rows, W features each (W is 4 registers), zeros
from feature F on: feature f of row r is at ``((f // W) * R + r) * W + f % W``. Both kinds of product take them so: rows
by rows, `_dots`, and a matrix by rows, `panel_products`, whose panels these are.

Letters: N pairs, M query rows of the batch, S steps of its longest memory; of one pair Q query and K memory steps, R
its memory steps up to a multiple of 4; E features of queries and keys, F of values.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..simd.across import hsum
from ..simd.denormals import flush, restore
from ..simd.dots import WIDTH, dot_step, load_across, no_sums, store_sums
from ..simd.host import REGISTERS
from ..simd.jit import jit, jit_inner
from ..simd.tile import COLUMNS, load_rows, store_rows
from ..simd.vector import fma, lanes_of, load, load_n, splat, store, store_n
from .activations import tanh
from .gemm import SAME_FOR_ALL, START, panel_products, panel_width, panels
from .softmax import softmax_row

__all__ = ["QUERY_BLOCK", "BackwardScratch", "Pairs", "Scratch", "attend", "attend_backward", "scratch_for"]

QUERY_BLOCK = 48
"""Query steps that are taken at once: whole tiles of any height."""

_HEIGHT = 4 if REGISTERS.number >= 32 else 2
"""Rows of a tile of running dot products: 4 x 4 of 32 registers, 2 x 4 of 16."""

_ACROSS = np.int64(1)
"""The stride of the rows of a transposed left operand, whose step along k is no literal."""

_product = panel_products(COLUMNS).product


class Pairs(NamedTuple):
    """Where the rows of each pair of sequences are.

    Attributes
    ----------
    query_rows, memory_rows : ndarray of int64, shape (steps + 1,)
        Row of the first sequence at each step (``Packed.offsets``): that of sequence n is n further on.
    query_steps, memory_steps : ndarray of int64, shape (N,)
        How many steps each sequence has.
    partners : ndarray of int64, shape (N,)
        Which sequence of the memory's batch goes with each of the queries'.
    """

    query_rows: NDArray[np.int64]
    query_steps: NDArray[np.int64]
    memory_rows: NDArray[np.int64]
    memory_steps: NDArray[np.int64]
    partners: NDArray[np.int64]


class Scratch(NamedTuple):
    """Memory of one core for `attend`: panels of a block of queries and of what they make, of keys and of values."""

    query: NDArray[Any]
    key: NDArray[Any]
    value: NDArray[Any]
    scores: NDArray[Any]
    context: NDArray[Any]
    zeros: NDArray[Any]


class BackwardScratch(NamedTuple):
    """Memory of one core for `attend_backward`; names with a d hold gradients."""

    query: NDArray[Any]
    key: NDArray[Any]
    value: NDArray[Any]
    weights: NDArray[Any]
    dquery: NDArray[Any]
    dkey: NDArray[Any]
    dvalue: NDArray[Any]
    dscores: NDArray[Any]
    dcontext: NDArray[Any]
    zeros: NDArray[Any]


def _padded(steps: int) -> int:
    """Return the memory steps that `_dots` takes for these."""
    return -(-steps // WIDTH) * WIDTH


def scratch_for(
    steps: tuple[int, int], features: tuple[int, int], dtype: np.dtype[Any], *, backward: bool
) -> list[int]:
    """Return the elements of each array of `Scratch`, or of `BackwardScratch`.

    `steps` are those of the longest query and memory, `features` those of queries and values.
    """
    block, memory = min(steps[0], QUERY_BLOCK), _padded(steps[1])
    wide, out = (panels(count, dtype) * panel_width(dtype) for count in features)
    first = [block * wide, memory * wide, memory * out, block * memory]
    more = [block * wide, memory * wide, memory * out, block * memory] if backward else []
    return [*first, *more, block * out, panel_width(dtype)]


@jit_inner
def _gather(rows, features, offsets, sequence, first, count, out, padded):
    """Copy the rows of `count` steps of a sequence, from step `first` on, to `out` as panels of `padded` rows."""
    lanes = lanes_of(out)
    width = COLUMNS * lanes
    for r in range(padded):
        exists = r < count
        row = (offsets[first + r] + sequence) * features if exists else 0
        for f in range(0, (features + width - 1) // width * width, lanes):
            at = (f // width * padded + r) * width + f % width
            left = features - f if exists else 0
            if left >= lanes:
                store(out, at, load(rows, row + f))
            else:
                store(out, at, load_n(rows, row + f, left))


@jit_inner
def _scatter(panels_in, padded, rows, features, offsets, sequence, first, count):
    """Copy panels of `padded` rows back to the rows of `count` steps of a sequence."""
    lanes = lanes_of(rows)
    width = COLUMNS * lanes
    for r in range(count):
        row = (offsets[first + r] + sequence) * features
        for f in range(0, features, lanes):
            values = load(panels_in, (f // width * padded + r) * width + f % width)
            if features - f >= lanes:
                store(rows, row + f, values)
            else:
                store_n(rows, row + f, values, features - f)


@jit_inner
def _copy(source, i, out, o, count):
    """Copy `count` values."""
    lanes = lanes_of(out)
    rest = count % lanes
    for c in range(0, count - rest, lanes):
        store(out, o + c, load(source, i + c))
    if rest:
        store_n(out, o + count - rest, load_n(source, i + count - rest, rest), rest)


@jit_inner
def _multiply(z, i, factors, f, count):
    """Multiply ``z[i:i + count]`` by ``factors[f:f + count]``."""
    lanes = lanes_of(z)
    for c in range(0, count, lanes):
        n = min(lanes, count - c)
        store_n(z, i + c, load_n(z, i + c, n) * load_n(factors, f + c, n), n)


@jit_inner
def _add(z, i, more, f, count):
    """Add ``more[f:f + count]`` to ``z[i:i + count]``."""
    lanes = lanes_of(z)
    for c in range(0, count, lanes):
        n = min(lanes, count - c)
        store_n(z, i + c, load_n(z, i + c, n) + load_n(more, f + c, n), n)


@jit_inner
def _dots(a, a_rows, rows, b, b_rows, features, out):
    """Write ``out[r * b_rows + s] = a[r] . b[s]``, both of `features` features as panels of a_rows and b_rows rows."""
    lanes = lanes_of(a)
    width = COLUMNS * lanes
    r = 0
    while r < rows:
        tall = rows - r >= _HEIGHT
        for s in range(0, b_rows, WIDTH):
            if tall:
                acc = no_sums(_HEIGHT, a)
                for f in range(0, features, lanes):
                    panel, c = f // width, f % width
                    i = (panel * a_rows + r) * width + c
                    acc = dot_step(acc, a, i, width, b, (panel * b_rows + s) * width + c, width)
                store_sums(acc, out, r * b_rows + s, b_rows)
            else:
                one = no_sums(1, a)
                for f in range(0, features, lanes):
                    panel, c = f // width, f % width
                    i = (panel * a_rows + r) * width + c
                    one = dot_step(one, a, i, width, b, (panel * b_rows + s) * width + c, width)
                store_sums(one, out, r * b_rows + s, b_rows)
        r += _HEIGHT if tall else 1


@jit_inner
def _sums_of_tanh(u, a, a_rows, rows, b, b_rows, features, out):
    """Write ``out[r * b_rows + s] = u . tanh(a[r] + b[s])``, as in `_dots`; u is padded to whole panels."""
    lanes = lanes_of(a)
    width = COLUMNS * lanes
    for r in range(rows):
        for s in range(0, b_rows, WIDTH):
            acc = no_sums(1, a)
            for f in range(0, features, lanes):
                panel, c = f // width, f % width
                x = load_across(a, (panel * a_rows + r) * width + c, 0)
                x = x + load_across(b, (panel * b_rows + s) * width + c, width)
                acc = fma(tanh(x), load_across(u, f, 0), acc)
            store_sums(acc, out, r * b_rows + s, b_rows)


@jit_inner
def _times(left, k_stride, rows, right, right_rows, k, features, start, out, out_rows):
    """Write ``start + A @ B``, `rows` rows of it, to panels of out_rows rows.

    Element (r, c) of A is ``a[r * row_stride + c * k_stride]``, with `left` ``(a, row_stride)``. B is `right`, as panels
    of right_rows rows, of which k count. `start` is ``(values, stride)``: rows like those of `out`, or of stride 0 and a
    panel of zeros.
    """
    a, row_stride = left
    values, stride = start
    width = COLUMNS * lanes_of(out)
    for f in range(0, features, width):
        j = f * right_rows
        o = f * out_rows
        _product(
            (a, START, row_stride),
            k_stride,
            rows,
            (right, j, j + right_rows * width, k),
            (values, o if stride else 0, stride),
            (out, o, width, width),
        )


@jit
def attend(pairs, causal, query, key, value, u, mask, weights, context, scratch, begin, end):
    """Write the weights and the context of each query row, for the pairs `begin` to `end`.

    pairs    `Pairs`
    causal   bool: query step t has the memory steps up to t alone
    query    ``(rows, E)``: rows 1-D float, in
    key      ``(rows, E)``: the same; rows of length 0: the values are the keys
    value    ``(rows, F)``: the same
    u        (0,)    float: scores are dot products
             (P,)    float, in: they are additive; u, with zeros up to whole panels
    mask     (0, S)  float: no dropout
             (M, S)  float, in: factors of the weights in the sum
    weights  (M, S)  float, out: line 2, zeros beyond the memory
    context  (M, F)  float, out: line 3
    scratch  `Scratch`, overwritten; one for each core
    """
    mode = flush()
    own_key = len(key[0]) > 0
    longest = weights.shape[1]
    kept, factors, out = weights.reshape(-1), mask.reshape(-1), context.reshape(-1)
    rows, wide = query
    scores = scratch.scores
    for n in range(begin, end):
        partner = pairs.partners[n]
        steps = pairs.memory_steps[partner]
        padded = (steps + WIDTH - 1) // WIDTH * WIDTH
        _gather(value[0], value[1], pairs.memory_rows, partner, 0, steps, scratch.value, padded)
        keys = scratch.value
        if own_key:
            keys = scratch.key
            _gather(key[0], wide, pairs.memory_rows, partner, 0, steps, keys, padded)
        for first in range(0, pairs.query_steps[n], QUERY_BLOCK):
            count = min(QUERY_BLOCK, pairs.query_steps[n] - first)
            _gather(rows, wide, pairs.query_rows, n, first, count, scratch.query, count)
            if len(u):
                _sums_of_tanh(u, scratch.query, count, count, keys, padded, wide, scores)
            else:
                _dots(scratch.query, count, count, keys, padded, wide, scores)
            for r in range(count):
                seen = min(steps, first + r + 1) if causal else steps
                at = r * padded
                m = (pairs.query_rows[first + r] + n) * longest
                softmax_row(scores, at, seen)
                for s in range(seen, steps):
                    scores[at + s] = 0.0
                _copy(scores, at, kept, m, steps)
                for s in range(steps, longest):
                    kept[m + s] = 0.0
                if len(factors):
                    _multiply(scores, at, factors, m, steps)
            zeros = scratch.zeros, SAME_FOR_ALL
            _times((scores, padded), 1, count, scratch.value, padded, steps, value[1], zeros, scratch.context, count)
            _scatter(scratch.context, count, out, value[1], pairs.query_rows, n, first, count)
    restore(mode)


@jit_inner
def _through_softmax(d, i, a, j, count):
    """Overwrite ``d[i:i + count]``, the gradient of the weights at ``a[j:]``, with that of their scores.

    ``de_s = a_s (da_s - sum over s of a_s da_s)``
    """
    lanes = lanes_of(d)
    part = splat(d, 0.0)
    for s in range(0, count, lanes):
        n = min(lanes, count - s)
        part = fma(load_n(a, j + s, n), load_n(d, i + s, n), part)
    mean = splat(d, hsum(part))
    for s in range(0, count, lanes):
        n = min(lanes, count - s)
        store_n(d, i + s, load_n(a, j + s, n) * (load_n(d, i + s, n) - mean), n)


@jit_inner
def _tanh_backward(u, key, scratch, rows, steps, padded, features, du, du_at):
    """Add to the panels dkey and to `du` what a block of query rows adds; write its own gradient to dquery.

    With the scores' gradient g_rs in dscores and ``y = tanh(q_r + k_s)``::

        dq_r = u sum over s of g (1 - y^2)      dk_s += sum over r of g (1 - y^2)      du += sum over both of g y

    dk_s lacks the factor u, which `_scale_panels` brings in when it is complete.
    """
    query, dquery, dkey, dscores = scratch.query, scratch.dquery, scratch.dkey, scratch.dscores
    width = COLUMNS * lanes_of(u)
    for r in range(rows):
        for f in range(0, features, width):
            at = f * rows + r * width
            q = load_rows(1, COLUMNS, query, at, 0)
            one = splat(q, 1.0)
            dq = splat(q, 0.0)
            for_u = splat(q, 0.0)
            for s in range(steps):
                g = splat(q, dscores[r * padded + s])
                k = f * padded + s * width
                y = tanh(q + load_rows(1, COLUMNS, key, k, 0))
                for_u = fma(g, y, for_u)
                slope = one - y * y
                dq = fma(g, slope, dq)
                store_rows(fma(g, slope, load_rows(1, COLUMNS, dkey, k, 0)), dkey, k, 0)
            store_rows(dq * load_rows(1, COLUMNS, u, f, 0), dquery, at, 0)
            store_rows(for_u + load_rows(1, COLUMNS, du, du_at + f, 0), du, du_at + f, 0)


@jit_inner
def _scale_panels(rows, u, features, padded):
    """Multiply panels of `padded` rows by u, feature by feature."""
    width = COLUMNS * lanes_of(u)
    for f in range(0, features, width):
        by = load_rows(1, COLUMNS, u, f, 0)
        for s in range(padded):
            at = f * padded + s * width
            store_rows(load_rows(1, COLUMNS, rows, at, 0) * by, rows, at, 0)


@jit_inner
def _clear(values, count):
    """Write `count` zeros, whole registers of them."""
    for i in range(0, count, lanes_of(values)):
        store(values, i, splat(values, 0.0))


@jit
def attend_backward(pairs, query, key, value, u, mask, weights, outer, inner, scratch, begin, end):
    """Write the gradients of the rows of the pairs `begin` to `end`.

    pairs .. mask  as `attend` had them
    weights        (M, S)  float, in: as `attend` wrote them
    outer          ``(dcontext, dweights)``, in: gradients of the context, (M, F), and of the weights after dropout,
                   (M, S), or (0, S): none
    inner          ``(dquery, dkey, dvalue, du)``, out: gradients of the rows, (M, E), (rows of the memory, E) and
                   (rows of the memory, F), and of u for each pair, (N, P). With the values as keys theirs is the sum of
                   both, and dkey of length 0; so is du where the scores are dot products
    scratch        `BackwardScratch`, overwritten; one for each core
    """
    mode = flush()
    own_key = len(key[0]) > 0
    longest = weights.shape[1]
    kept, factors, dweights = weights.reshape(-1), mask.reshape(-1), outer[1].reshape(-1)
    dcontext, dquery, dkey, dvalue = (
        outer[0].reshape(-1),
        inner[0].reshape(-1),
        inner[1].reshape(-1),
        inner[2].reshape(-1),
    )
    du = inner[3].reshape(-1)
    rows, wide = query
    features = value[1]
    width = COLUMNS * lanes_of(kept)
    left, dscores = scratch.weights, scratch.dscores
    zeros = scratch.zeros, SAME_FOR_ALL
    for n in range(begin, end):
        partner = pairs.partners[n]
        steps = pairs.memory_steps[partner]
        padded = (steps + WIDTH - 1) // WIDTH * WIDTH
        _gather(value[0], features, pairs.memory_rows, partner, 0, steps, scratch.value, padded)
        keys = scratch.value
        if own_key:
            keys = scratch.key
            _gather(key[0], wide, pairs.memory_rows, partner, 0, steps, keys, padded)
        own_u = n * inner[3].shape[1]
        for f in range(inner[3].shape[1]):
            du[own_u + f] = 0.0
        if len(u):
            _clear(scratch.dkey, (wide + width - 1) // width * width * padded)
        for first in range(0, pairs.query_steps[n], QUERY_BLOCK):
            count = min(QUERY_BLOCK, pairs.query_steps[n] - first)
            _gather(rows, wide, pairs.query_rows, n, first, count, scratch.query, count)
            _gather(dcontext, features, pairs.query_rows, n, first, count, scratch.dcontext, count)
            _dots(scratch.dcontext, count, count, scratch.value, padded, features, dscores)  # 3b: the weights' gradient
            for r in range(count):
                at = r * padded
                m = (pairs.query_rows[first + r] + n) * longest
                _copy(kept, m, left, at, steps)
                if len(dweights):
                    _add(dscores, at, dweights, m, steps)
                if len(factors):
                    _multiply(left, at, factors, m, steps)
                    _multiply(dscores, at, factors, m, steps)
                _through_softmax(dscores, at, kept, m, steps)  # 2b
            # 3b: dv_s = sum over t of a_ts m_ts dc_t
            dvalues, dkeys = scratch.dvalue, scratch.dkey
            before = zeros if first == 0 else (dvalues, width)
            _times((left, _ACROSS), padded, steps, scratch.dcontext, count, count, features, before, dvalues, padded)
            # 1b
            if len(u):
                _tanh_backward(u, keys, scratch, count, steps, padded, wide, du, own_u)
            else:
                _times((dscores, padded), 1, count, keys, padded, steps, wide, zeros, scratch.dquery, count)
                if not own_key:
                    dkeys = dvalues
                before = (dkeys, width) if first or not own_key else zeros
                _times((dscores, _ACROSS), padded, steps, scratch.query, count, count, wide, before, dkeys, padded)
            _scatter(scratch.dquery, count, dquery, wide, pairs.query_rows, n, first, count)
        if len(u):
            _scale_panels(scratch.dkey, u, wide, padded)
        if own_key:
            _scatter(scratch.dkey, padded, dkey, wide, pairs.memory_rows, partner, 0, steps)
        elif len(u):
            _add(scratch.dvalue, 0, scratch.dkey, 0, (wide + width - 1) // width * width * padded)
        _scatter(scratch.dvalue, padded, dvalue, features, pairs.memory_rows, partner, 0, steps)
    restore(mode)
