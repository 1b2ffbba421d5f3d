"""Cores of ``fastlstm.decode.sampling``: logits in, ids out, with the GIL released.

``greedy``, ``draw``, ``log_probabilities`` and ``score`` take what ``as_rows`` gives: a C-contiguous, aligned, native
``(N, V)`` array of float32 or float64. Options have been checked by ``SamplingOptions``; a ``Plan`` is what is left
of them for the core. What only the pass over the data can find (NaN, +inf, nothing left to choose from) raises
``DataError`` here.
"""

cimport cython
from cpython.mem cimport PyMem_RawFree, PyMem_RawMalloc
from libc.stdint cimport int32_t, int64_t
from libc.string cimport memset

import numpy as np

cimport numpy as cnp

from fastlstm.decode.masks import refuse_masked
from fastlstm.errors import DataError, OptionError, ShapeError

from common.select cimport ROW_LANES
from sampling.draw cimport ALL_BANNED, ALL_OUT, FINE, HAS_INFINITY, HAS_NAN, OVERFLOWN
from sampling.filters cimport Row
from sampling.rng cimport draw_uniforms
from sampling.sample_rows cimport Options, draw_rows, greedy_rows, log_probability_rows, score_rows
from sampling.scratch cimport new_scratch

cnp.import_array()

cdef dict MESSAGES = {
    HAS_NAN: "logits row {row} holds NaN; sampling needs numbers or -inf. Look for a diverged model or an overflow",
    HAS_INFINITY: "logits row {row} holds +inf, which leaves no distribution; clip the logits, or use greedy()",
    ALL_OUT: "logits row {row} is -inf everywhere, so no id can be chosen; leave at least one finite logit",
    OVERFLOWN: "row {row}: logit_bias or a penalty drives a logit past the largest of its type; use a smaller one",
    ALL_BANNED: "row {row}: the options ban every id; loosen banned_ids, no_repeat_ngram, logit_bias or min_length",
}


# --- Arrays -----------------------------------------------------------------------------------------------------

cdef cnp.ndarray as_rows(object logits):
    """The logits as the cores take them; no copy where they are that already (a 1-D row stays 1-D)."""
    cdef cnp.ndarray array
    if not cnp.PyArray_CheckExact(logits):
        refuse_masked(logits, "logits")
        try:
            logits = np.asarray(logits)
        except ValueError as error:
            raise ShapeError(f"logits must be an array (N, V) or (V,), got something ragged: {error}") from None
    array = logits
    if cnp.PyArray_TYPE(array) != cnp.NPY_FLOAT32 and cnp.PyArray_TYPE(array) != cnp.NPY_FLOAT64:
        if array.dtype.kind not in "fiub":
            raise DataError(f"logits must be real numbers, got dtype {array.dtype}; convert them to float32")
        exact = array.dtype.itemsize <= 2 or array.dtype.kind == "b"
        array = array.astype(np.float32 if exact else np.float64)
    if not 1 <= cnp.PyArray_NDIM(array) <= 2:
        raise ShapeError(f"logits must be (N, V) or (V,), got shape {np.shape(array)}; give one row a sequence")
    if not cnp.PyArray_ISCARRAY_RO(array):  # C-contiguous, aligned, native byte order
        array = np.require(array, array.dtype.newbyteorder("="), ["C", "A"])
    V = cnp.PyArray_DIM(array, cnp.PyArray_NDIM(array) - 1)
    if not 1 <= V < 2**31:
        raise ShapeError(f"logits must have 1 to 2**31 - 1 columns, got shape {np.shape(array)}")
    return array


def rows(object logits):
    """The logits as the cores take them, for a caller who must see their shape first."""
    return as_rows(logits)


cdef Py_ssize_t row_count(cnp.ndarray logits) noexcept:
    return cnp.PyArray_DIM(logits, 0) if cnp.PyArray_NDIM(logits) == 2 else 1


cdef cnp.ndarray new_ids(Py_ssize_t n):
    cdef cnp.npy_intp shape = n
    return cnp.PyArray_EMPTY(1, &shape, cnp.NPY_INT64, 0)


cdef object result(cnp.ndarray logits, cnp.ndarray ids):
    """The ids, or the one id as an int where the logits were 1-D."""
    return ids if cnp.PyArray_NDIM(logits) == 2 else (<int64_t*>cnp.PyArray_DATA(ids))[0]


cdef int raise_trouble(int trouble, Py_ssize_t row) except -1:
    raise DataError(MESSAGES[trouble].format(row=row))


# --- Options ----------------------------------------------------------------------------------------------------

@cython.final
cdef class Plan:
    """Checked options in the form the core reads. Immutable; holds the arrays that ``options`` points to."""

    cdef Options options
    cdef readonly int64_t largest_id  # the largest id the options name, or -1
    cdef readonly bint needs_history
    cdef dict ids  # by option: the arrays that options points to
    cdef cnp.ndarray bias

    def __init__(
        self, *, temperature, top_k, top_p, min_p, typical_p, epsilon_cutoff, eta_cutoff, repetition_penalty,
        frequency_penalty, presence_penalty, no_repeat_ngram, logit_bias, banned_ids, forced_ids, end_ids, min_length,
        max_length,
    ):
        cdef Options* options = &self.options
        options.temperature = temperature
        options.top_k, options.top_p, options.min_p, options.typical_p = top_k, top_p, min_p, typical_p
        options.epsilon, options.eta = epsilon_cutoff, eta_cutoff
        options.filters = top_k > 0 or top_p < 1 or min_p > 0 or typical_p < 1 or epsilon_cutoff > 0 or eta_cutoff > 0
        cdef cnp.ndarray bias_ids = np.array([id for id, _ in logit_bias], np.int64)
        cdef cnp.ndarray bias = np.array([value for _, value in logit_bias], np.float64)
        cdef cnp.ndarray banned = np.array(banned_ids, np.int64)
        cdef cnp.ndarray ends = np.array(end_ids, np.int64)
        cdef cnp.ndarray forced = np.array(forced_ids, np.int64)
        self.ids = {"logit_bias": bias_ids, "banned_ids": banned, "end_ids": ends, "forced_ids": forced}
        self.bias = bias
        self.largest_id = max(int(ids.max(initial=-1)) for ids in self.ids.values())
        options.edits.bias_ids = <const int64_t*>cnp.PyArray_DATA(bias_ids)
        options.edits.bias = <const double*>cnp.PyArray_DATA(bias)
        options.edits.n_bias = bias_ids.size
        options.edits.banned = <const int64_t*>cnp.PyArray_DATA(banned)
        options.edits.n_banned = banned.size
        options.edits.ends = <const int64_t*>cnp.PyArray_DATA(ends)
        options.edits.n_ends = ends.size
        options.edits.forced = <const int64_t*>cnp.PyArray_DATA(forced)
        options.edits.n_forced = forced.size
        options.edits.repetition = repetition_penalty
        options.edits.frequency, options.edits.presence = frequency_penalty, presence_penalty
        options.edits.ngram = no_repeat_ngram
        options.edits.min_length, options.edits.max_length = min_length, -1 if max_length is None else max_length
        penalties = repetition_penalty != 1 or frequency_penalty != 0 or presence_penalty != 0
        self.needs_history = penalties or no_repeat_ngram > 0 or min_length > 0 or max_length is not None
        options.edits.any = self.needs_history or bias_ids.size + banned.size + forced.size > 0


# --- What Python calls ------------------------------------------------------------------------------------------

def greedy(object logits):
    """The id of the largest logit of each row; see ``fastlstm.decode.greedy``."""
    cdef cnp.ndarray array = as_rows(logits)
    cdef Py_ssize_t N = row_count(array), V = cnp.PyArray_DIM(array, cnp.PyArray_NDIM(array) - 1), number = 0
    cdef cnp.ndarray ids = new_ids(N)
    cdef const void* x = cnp.PyArray_DATA(array)
    cdef int64_t* out = <int64_t*>cnp.PyArray_DATA(ids)
    cdef bint single = cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT32
    cdef int trouble
    with nogil:
        if single:
            trouble = greedy_rows(<const float*>x, N, V, out, &number)
        else:
            trouble = greedy_rows(<const double*>x, N, V, out, &number)
    if trouble != FINE:
        raise_trouble(trouble, number)
    return result(array, ids)


cdef int check_ids(Plan plan, cnp.ndarray history, Py_ssize_t N, Py_ssize_t V) except -1:
    """That every id which the options and the history name is a column, and that there is one for each row."""
    cdef const int64_t* id
    cdef Py_ssize_t i, forced = plan.options.edits.n_forced
    if plan.largest_id >= V:
        name = next(name for name, ids in plan.ids.items() if ids.max(initial=-1) == plan.largest_id)
        raise OptionError(f"{name} holds id {plan.largest_id}, but the logits have {V} columns; use ids below {V}")
    if forced > 1 and forced != N:
        raise OptionError(
            f"forced_ids has {forced} entries for {N} rows of logits; give one for each row, or one id"
        )
    if history is not None:
        id = <const int64_t*>cnp.PyArray_DATA(history)
        for i in range(cnp.PyArray_SIZE(history)):
            if id[i] < 0 or id[i] >= V:
                raise DataError(f"history holds id {id[i]}, but ids are 0 to {V - 1}; pass ids of this vocabulary")
    return 0


def draw(object logits, Plan plan, object bit_generator, cnp.ndarray history=None, cnp.ndarray offsets=None):
    """One id for each row, drawn as the plan says from one uniform of the generator a row.

    ``history`` holds the ids so far of all rows, int64, one after the other; row i's are those from ``offsets[i]`` to
    ``offsets[i + 1]``. Raises before it draws where shapes or ids are wrong, and after it where the data is.
    """
    cdef cnp.ndarray array = as_rows(logits)
    cdef Py_ssize_t N = row_count(array), V = cnp.PyArray_DIM(array, cnp.PyArray_NDIM(array) - 1), number = 0
    cdef bint single = cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT32
    cdef cnp.ndarray ids = new_ids(N)
    cdef const void* x = cnp.PyArray_DATA(array)
    cdef int64_t* out = <int64_t*>cnp.PyArray_DATA(ids)
    cdef const int64_t* past = NULL
    cdef const int64_t* starts = NULL
    cdef double few[64]
    cdef double* u = few
    cdef Row row
    cdef void* e = NULL
    cdef void* scratch = NULL
    cdef int32_t* seen = NULL
    cdef int trouble
    check_ids(plan, history, N, V)
    if history is not None:
        past, starts = <const int64_t*>cnp.PyArray_DATA(history), <const int64_t*>cnp.PyArray_DATA(offsets)
    try:
        if N > 64:
            u = <double*>PyMem_RawMalloc(N * sizeof(double))
            if u == NULL:
                raise MemoryError(f"sampling could not allocate {N} uniforms")
        scratch = new_scratch(&row, &e, &seen, V, sizeof(float) if single else sizeof(double))
        draw_uniforms(bit_generator, u, N)
        with nogil:
            if past != NULL:
                memset(seen, 0, V * sizeof(int32_t))
            if single:
                trouble = draw_rows(
                    <const float*>x, N, V, &plan.options, u, past, starts, &row, <float*>e, seen, out, &number
                )
            else:
                trouble = draw_rows(
                    <const double*>x, N, V, &plan.options, u, past, starts, &row, <double*>e, seen, out, &number
                )
    finally:
        PyMem_RawFree(scratch)
        if u != few:
            PyMem_RawFree(u)
    if trouble != FINE:
        raise_trouble(trouble, number)
    return result(array, ids)


def log_probabilities(object logits, Plan plan, cnp.ndarray history=None, cnp.ndarray offsets=None):
    """Log-probabilities (in the logits' shape) that ``draw`` draws from; -inf for the ids taken out."""
    cdef cnp.ndarray array = as_rows(logits)
    cdef Py_ssize_t N = row_count(array), V = cnp.PyArray_DIM(array, cnp.PyArray_NDIM(array) - 1), number = 0
    cdef bint single = cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT32
    cdef cnp.ndarray out = np.empty_like(array)
    cdef const void* x = cnp.PyArray_DATA(array)
    cdef void* target = cnp.PyArray_DATA(out)
    cdef const int64_t* past = NULL
    cdef const int64_t* starts = NULL
    cdef Row row
    cdef void* e = NULL
    cdef void* scratch
    cdef int32_t* seen = NULL
    cdef int trouble
    check_ids(plan, history, N, V)
    if history is not None:
        past, starts = <const int64_t*>cnp.PyArray_DATA(history), <const int64_t*>cnp.PyArray_DATA(offsets)
    scratch = new_scratch(&row, &e, &seen, V, sizeof(float) if single else sizeof(double))
    with nogil:
        if past != NULL:
            memset(seen, 0, V * sizeof(int32_t))
        if single:
            trouble = log_probability_rows(
                <const float*>x, N, V, &plan.options, past, starts, &row, <float*>e, seen, <float*>target, &number
            )
        else:
            trouble = log_probability_rows(
                <const double*>x, N, V, &plan.options, past, starts, &row, <double*>e, seen, <double*>target, &number
            )
        PyMem_RawFree(scratch)
    if trouble != FINE:
        raise_trouble(trouble, number)
    return out


def score(object logits, cnp.ndarray ids, Py_ssize_t k):
    """Log-softmax of the logits at ``ids`` (int64, one a row), and its k largest with their ids.

    Returns (N,) float64, (N, min(k, V)) int64 and float64, sorted from the most probable on.
    """
    cdef cnp.ndarray array = as_rows(logits)
    cdef Py_ssize_t N = row_count(array), V = cnp.PyArray_DIM(array, cnp.PyArray_NDIM(array) - 1), number = 0
    cdef bint single = cnp.PyArray_TYPE(array) == cnp.NPY_FLOAT32
    k = min(k, V)
    cdef cnp.ndarray scores = np.empty(N), top_ids = np.empty((N, k), np.int64), top_scores = np.empty((N, k))
    cdef cnp.ndarray scratch = np.empty(2 * V + V // ROW_LANES + 2, array.dtype), best = np.empty(V, np.int32)
    cdef const void* x = cnp.PyArray_DATA(array)
    cdef const int64_t* chosen = <const int64_t*>cnp.PyArray_DATA(ids)
    cdef void* space = cnp.PyArray_DATA(scratch)
    cdef int32_t* order = <int32_t*>cnp.PyArray_DATA(best)
    cdef double* out = <double*>cnp.PyArray_DATA(scores)
    cdef int64_t* out_ids = <int64_t*>cnp.PyArray_DATA(top_ids)
    cdef double* out_scores = <double*>cnp.PyArray_DATA(top_scores)
    cdef int trouble
    with nogil:
        if single:
            trouble = score_rows(
                <const float*>x, N, V, chosen, k, <float*>space, order, out, out_ids, out_scores, &number
            )
        else:
            trouble = score_rows(
                <const double*>x, N, V, chosen, k, <double*>space, order, out, out_ids, out_scores, &number
            )
    if trouble != FINE:
        raise_trouble(trouble, number)
    return scores, top_ids, top_scores
