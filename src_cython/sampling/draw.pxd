"""The draw itself: from one uniform number to one candidate.

A draw is the inverse of the cumulative distribution in the order of the ids. The sums by blocks of ROW_BLOCK weights
say which block it falls in; only that one is walked.
"""

from libc.math cimport INFINITY, isinf

from common.select cimport ROW_BLOCK, exp_cumulate, exponentials, real, row_max
from sampling.edits cimport to_real


cdef enum Trouble:
    FINE = 0
    HAS_NAN = 1
    HAS_INFINITY = 2
    ALL_OUT = 3  # every logit was -inf
    ALL_BANNED = 4  # every logit is -inf after the edits
    OVERFLOWN = 5  # a logit is NaN or +inf after the edits


cdef inline Py_ssize_t locate(const real* e, Py_ssize_t n, const double* sums, double target) noexcept nogil:
    """The first candidate whose cumulative weight exceeds the target, given the cumulative block sums of the n."""
    cdef Py_ssize_t block = 0, i, end
    cdef Py_ssize_t last = (n - 1) // ROW_BLOCK
    cdef double sum
    while block < last and sums[block] <= target:
        block += 1
    sum = sums[block - 1] if block > 0 else 0
    end = min(n, (block + 1) * ROW_BLOCK)
    for i in range(block * ROW_BLOCK, end):
        sum += e[i]
        if sum > target:
            return i
    for i in range(end - 1, -1, -1):  # the sums differ by rounding: the last that has a weight
        if e[i] > 0:
            return i
    return 0


cdef inline Py_ssize_t draw_plain(
    const real* x, Py_ssize_t V, double temperature, double u, double* sums, int* trouble
) noexcept nogil:
    """Draw from softmax(x / temperature) with nothing stored but block sums: one block's weights are computed again."""
    cdef real e[ROW_BLOCK]
    cdef int nan = 0
    cdef real top = row_max(x, V, &nan), cold
    cdef double target, sum
    cdef Py_ssize_t block = 0, last = (V - 1) // ROW_BLOCK, start
    if nan or isinf(top):
        trouble[0] = HAS_NAN if nan else HAS_INFINITY if top > 0 else ALL_OUT
        return 0
    to_real(temperature, &cold)
    target = u * exp_cumulate(x, V, top, 1 / cold, sums)
    while block < last and sums[block] <= target:
        block += 1
    while block > 0 and sums[block] == sums[block - 1]:  # rounding took the target past all the weight there is
        block -= 1
    start = block * ROW_BLOCK
    exponentials(x + start, min(V - start, <Py_ssize_t>ROW_BLOCK), top, 1 / cold, e)
    sum = sums[block - 1] if block > 0 else 0
    sums[0] = INFINITY
    return start + locate(<const real*>e, min(V - start, <Py_ssize_t>ROW_BLOCK), sums, target - sum)
