"""What a beam search asks of one row of logits: its column maxima, its log-sum-exp, whether it can be used at all."""

from libc.math cimport INFINITY, log

from common.select cimport real

cdef extern from "beam/rows.h":
    float row_column_maxima_f32(const float* x, Py_ssize_t n, float* maxima, int* nan) noexcept nogil
    double row_column_maxima_f64(const double* x, Py_ssize_t n, double* maxima, int* nan) noexcept nogil
    double row_long_exp_sum_f32(const float* x, Py_ssize_t n, float top) noexcept nogil
    double row_long_exp_sum_f64(const double* x, Py_ssize_t n, double top) noexcept nogil

cdef enum:
    ROW_FINE = 0
    ROW_NAN = 1
    ROW_PLUS_INFINITY = 2
    ROW_ABOVE_ONE = 3    # log-probabilities were promised, the row holds one above 0


cdef inline int measure_row(const real* x, Py_ssize_t n, bint normalized, real* maxima, double* lse) noexcept nogil:
    """Column maxima (see ``rows.h``), and log sum_i e**x_i (0 where x is ``normalized`` already)."""
    cdef int nan = 0
    cdef real top
    if real is float:
        top = row_column_maxima_f32(x, n, maxima, &nan)
    else:
        top = row_column_maxima_f64(x, n, maxima, &nan)
    if nan:
        return ROW_NAN
    if top == <real>INFINITY:
        return ROW_PLUS_INFINITY
    lse[0] = 0.0
    if normalized:
        return ROW_ABOVE_ONE if top > 1e-3 else ROW_FINE          # a little above 0 is rounding
    if top > <real>-INFINITY:                                     # else a dead end: every entry stays -inf
        if real is float:
            lse[0] = top + log(row_long_exp_sum_f32(x, n, top))
        else:
            lse[0] = top + log(row_long_exp_sum_f64(x, n, top))
    return ROW_FINE
