"""Rows of logits to ids: edits, temperature, filters and draw, one row after the other.

``e`` (V weights), ``row`` and ``seen`` are scratch (``scratch.pxd``). Each function returns a ``Trouble``, and in
``number`` the row that it is in.
"""

from libc.math cimport INFINITY, isinf, log
from libc.stdint cimport int32_t, int64_t

from common.select cimport ROW_LANES, divide, first_maximum, log_sum_exp, real, row_max, subtract, top_k
from sampling.draw cimport ALL_BANNED, ALL_OUT, FINE, HAS_INFINITY, HAS_NAN, OVERFLOWN, draw_plain, locate
from sampling.edits cimport Edits, edit_row, to_real
from sampling.filters cimport (
    Row, eta_cutoff, filter_cutoff, filter_min_p, filter_top_k, filter_top_p, filter_typical, weigh,
)


cdef struct Options:
    Edits edits
    double temperature
    double top_p
    double min_p
    double typical_p
    double epsilon
    double eta
    Py_ssize_t top_k
    bint filters


cdef inline int prepare(
    Row* row, real* e, const real* x, Py_ssize_t V, const Options* options, Py_ssize_t number, const int64_t* history,
    Py_ssize_t length, int32_t* seen,
) noexcept nogil:
    """Edits and temperature: set the row to its V candidates."""
    cdef real* own = <real*>row.own
    cdef real temperature
    cdef int nan = 0
    cdef real top = row_max(x, V, &nan)
    cdef Py_ssize_t i
    if nan:
        return HAS_NAN
    if isinf(top):
        return HAS_INFINITY if top > 0 else ALL_OUT
    row.n, row.y, row.ids, row.weighed = V, x, NULL, False
    if options.edits.any:
        for i in range(V):
            own[i] = x[i]
        edit_row(own, V, &options.edits, number, history, length, seen)
        row.y = own
        top = row_max(own, V, &nan)
        if nan or isinf(top):
            return OVERFLOWN if nan or top > 0 else ALL_BANNED
    to_real(options.temperature, &temperature)
    if options.temperature > 0 and temperature != 1:
        if isinf(top / temperature):  # too cold for the type: only differences to the largest can be divided
            subtract(<const real*>row.y, V, top, own)
            row.y, top = own, 0
        divide(<const real*>row.y, V, temperature, own)
        row.y, top = own, top / temperature
    row.top = top
    return FINE


cdef inline void apply_filters(Row* row, real* e, const Options* options) noexcept nogil:
    """The filters, in the documented order."""
    if options.top_k > 0:
        filter_top_k(row, e, options.top_k)
    if options.top_p < 1:
        filter_top_p(row, e, options.top_p)
    if options.min_p > 0:
        filter_min_p(row, e, options.min_p)
    if options.typical_p < 1:
        filter_typical(row, e, options.typical_p)
    if options.epsilon > 0:
        filter_cutoff(row, e, options.epsilon)
    if options.eta > 0:
        filter_cutoff(row, e, eta_cutoff(row, e, options.eta))


cdef inline int greedy_rows(const real* x, Py_ssize_t N, Py_ssize_t V, int64_t* ids, Py_ssize_t* number) noexcept nogil:
    cdef int nan
    cdef Py_ssize_t i
    for i in range(N):
        ids[i] = first_maximum(x + i * V, V, &nan)
        if nan or x[i * V + ids[i]] == -INFINITY:
            number[0] = i
            return HAS_NAN if nan else ALL_OUT
    return FINE


cdef inline int draw_rows(
    const real* x, Py_ssize_t N, Py_ssize_t V, const Options* options, const double* u, const int64_t* history,
    const int64_t* offsets, Row* row, real* e, int32_t* seen, int64_t* ids, Py_ssize_t* number,
) noexcept nogil:
    """One id a row; on trouble its number, and ids holds those before it."""
    cdef int trouble = FINE
    cdef Py_ssize_t i, at
    for i in range(N):
        number[0] = i
        if not options.edits.any and not options.filters and options.temperature > 0:
            ids[i] = draw_plain(x + i * V, V, options.temperature, u[i], row.sums, &trouble)
        else:
            trouble = prepare(
                row, e, x + i * V, V, options, i, history + offsets[i] if offsets != NULL else NULL,
                offsets[i + 1] - offsets[i] if offsets != NULL else 0, seen,
            )
            if trouble == FINE:
                if options.temperature == 0:
                    ids[i] = first_maximum(<const real*>row.y, V, &trouble)
                else:
                    apply_filters(row, e, options)
                    weigh(row, e)
                    at = locate(<const real*>e, row.n, row.sums, u[i] * row.total)
                    ids[i] = row.ids[at] if row.ids != NULL else at
        if trouble != FINE:
            return trouble
    return FINE


cdef inline int log_probability_rows(
    const real* x, Py_ssize_t N, Py_ssize_t V, const Options* options, const int64_t* history, const int64_t* offsets,
    Row* row, real* e, int32_t* seen, real* out, Py_ssize_t* number,
) noexcept nogil:
    """out (N, V) = log of the probability each id would be drawn with; -inf for those taken out."""
    cdef int trouble
    cdef Py_ssize_t i, j
    cdef double log_total
    cdef const real* y
    for i in range(N):
        number[0] = i
        trouble = prepare(
            row, e, x + i * V, V, options, i, history + offsets[i] if offsets != NULL else NULL,
            offsets[i + 1] - offsets[i] if offsets != NULL else 0, seen,
        )
        if trouble != FINE:
            return trouble
        for j in range(V):
            out[i * V + j] = <real>-INFINITY
        y = <const real*>row.y
        if options.temperature == 0:
            out[i * V + first_maximum(y, V, &trouble)] = 0
            continue
        apply_filters(row, e, options)
        weigh(row, e)
        y = <const real*>row.y
        log_total = log(row.total)
        for j in range(row.n):
            out[i * V + (row.ids[j] if row.ids != NULL else j)] = <real>(y[j] - row.top - log_total)
    return FINE


cdef inline int score_rows(
    const real* x, Py_ssize_t N, Py_ssize_t V, const int64_t* ids, Py_ssize_t k, real* scratch, int32_t* best,
    double* scores, int64_t* top_ids, double* top_scores, Py_ssize_t* number,
) noexcept nogil:
    """scores (N) = log_softmax(x)[ids]; top_ids and top_scores (N, k) = its k largest, sorted."""
    cdef int nan = 0
    cdef Py_ssize_t i, j
    cdef double log_total
    cdef real* values = scratch + V + V // ROW_LANES + 2
    for i in range(N):
        number[0] = i
        log_total = log_sum_exp(x + i * V, V, &nan)
        if nan or isinf(log_total):
            return HAS_NAN if nan else HAS_INFINITY if log_total > 0 else ALL_OUT
        scores[i] = x[i * V + ids[i]] - log_total
        top_k(x + i * V, V, k, values, best, scratch)
        for j in range(k):
            top_ids[i * k + j] = best[j]
            top_scores[i * k + j] = values[j] - log_total
    return FINE
