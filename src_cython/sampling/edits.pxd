"""What changes a row of logits before the temperature: bias, penalties, bans, forced ids.

Only rows whose options ask for one of these are copied and edited; the order is that of ``edit_row``.
"""

from libc.float cimport DBL_MIN, FLT_MIN
from libc.math cimport INFINITY
from libc.stdint cimport int32_t, int64_t

from common.select cimport real


cdef struct Edits:
    bint any  # whether there is anything to do at all
    const int64_t* bias_ids
    const double* bias
    Py_ssize_t n_bias
    double repetition, frequency, presence  # 1, 0, 0: none
    Py_ssize_t ngram  # 0: none
    const int64_t* banned
    Py_ssize_t n_banned
    const int64_t* ends
    Py_ssize_t n_ends
    Py_ssize_t min_length  # 0: none
    Py_ssize_t max_length  # -1: none
    const int64_t* forced  # one for each row, or one for all; negative: not forced
    Py_ssize_t n_forced


cdef inline void to_real(double value, real* t) noexcept nogil:
    """A divisor above 0 in the type of the logits: a normal number, so that neither it nor 1 / t is 0 or inf."""
    if real is float:
        t[0] = <float>min(max(value, <double>FLT_MIN), 1 / <double>FLT_MIN)
    else:
        t[0] = min(max(value, DBL_MIN), 1 / DBL_MIN)


cdef inline void edit_row(
    real* y, Py_ssize_t V, const Edits* edits, Py_ssize_t row, const int64_t* history, Py_ssize_t length, int32_t* seen
) noexcept nogil:
    """Edit the V logits of one row in place; ``history`` is its ``length`` ids so far.

    ``seen`` (int32[V]) is zero before and after. Every id is within the vocabulary.
    """
    cdef Py_ssize_t i
    cdef int64_t forced
    for i in range(edits.n_bias):
        y[edits.bias_ids[i]] += <real>edits.bias[i]
    if edits.repetition != 1 or edits.frequency != 0 or edits.presence != 0:
        penalise(y, edits, history, length, seen)
    if edits.ngram > 0:
        ban_repeated_ngrams(y, edits.ngram, history, length)
    for i in range(edits.n_banned):
        y[edits.banned[i]] = <real>-INFINITY
    if length < edits.min_length:
        for i in range(edits.n_ends):
            y[edits.ends[i]] = <real>-INFINITY
    if edits.max_length >= 0 and length + 1 >= edits.max_length:
        force(y, V, edits.ends, edits.n_ends)
    if edits.n_forced > 0:
        forced = edits.forced[row if edits.n_forced > 1 else 0]
        if forced >= 0:
            force(y, V, &forced, 1)


cdef inline void force(real* y, Py_ssize_t V, const int64_t* ids, Py_ssize_t n) noexcept nogil:
    """Leave only these ids, equally probable."""
    cdef Py_ssize_t i
    for i in range(V):
        y[i] = <real>-INFINITY
    for i in range(n):
        y[ids[i]] = 0


cdef inline void penalise(
    real* y, const Edits* edits, const int64_t* history, Py_ssize_t length, int32_t* seen
) noexcept nogil:
    """Repetition (Keskar et al., 2019), then frequency and presence penalties, once for each different id."""
    cdef Py_ssize_t i
    cdef int64_t id
    cdef real repetition
    to_real(edits.repetition, &repetition)
    for i in range(length):
        seen[history[i]] += 1
    for i in range(length):
        id = history[i]
        if seen[id] > 0:
            if repetition != 1:  # away from zero on the improbable side, whichever sign the logit has
                y[id] = y[id] * repetition if y[id] < 0 else y[id] / repetition
            y[id] -= <real>(edits.frequency * seen[id] + edits.presence)
            seen[id] = 0


cdef inline void ban_repeated_ngrams(
    real* y, Py_ssize_t ngram, const int64_t* history, Py_ssize_t length
) noexcept nogil:
    """Ban each id that would end an n-gram which the history already has (Paulus et al., 2017)."""
    cdef Py_ssize_t start, i
    cdef const int64_t* suffix = history + length - (ngram - 1)
    for start in range(length - ngram + 1):
        for i in range(ngram - 1):
            if history[start + i] != suffix[i]:
                break
        else:
            y[history[start + ngram - 1]] = <real>-INFINITY
