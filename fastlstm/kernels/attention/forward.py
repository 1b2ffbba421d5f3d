"""Weights and context of each query step."""

from ...simd.denormals import flush, restore
from ...simd.dots import WIDTH, load_across, no_sums, store_sums
from ...simd.jit import jit, jit_inner
from ...simd.tile import COLUMNS
from ...simd.vector import fma, lanes_of
from ..activations import tanh
from ..gemm import SAME_FOR_ALL
from ..softmax import softmax_row
from .rows import QUERY_BLOCK, copy, dots, gather, multiply, scatter, times

__all__ = ["attend"]


@jit_inner
def _sums_of_tanh(u, a, a_rows, rows, b, b_rows, features, out):
    """Write ``out[r * b_rows + s] = u . tanh(a[r] + b[s])``, as in `dots`; u is padded to whole panels."""
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
        gather(value[0], value[1], pairs.memory_rows, partner, 0, steps, scratch.value, padded)
        keys = scratch.value
        if own_key:
            keys = scratch.key
            gather(key[0], wide, pairs.memory_rows, partner, 0, steps, keys, padded)
        for first in range(0, pairs.query_steps[n], QUERY_BLOCK):
            count = min(QUERY_BLOCK, pairs.query_steps[n] - first)
            gather(rows, wide, pairs.query_rows, n, first, count, scratch.query, count)
            if len(u):
                _sums_of_tanh(u, scratch.query, count, count, keys, padded, wide, scores)
            else:
                dots(scratch.query, count, count, keys, padded, wide, scores)
            for r in range(count):
                seen = min(steps, first + r + 1) if causal else steps
                at = r * padded
                m = (pairs.query_rows[first + r] + n) * longest
                softmax_row(scores, at, seen)
                for s in range(seen, steps):
                    scores[at + s] = 0.0
                copy(scores, at, kept, m, steps)
                for s in range(steps, longest):
                    kept[m + s] = 0.0
                if len(factors):
                    multiply(scores, at, factors, m, steps)
            zeros = scratch.zeros, SAME_FOR_ALL
            times((scores, padded), 1, count, scratch.value, padded, steps, value[1], zeros, scratch.context, count)
            scatter(scratch.context, count, out, value[1], pairs.query_rows, n, first, count)
    restore(mode)
