"""Best paths of a linear chain (Viterbi 1967; Forney 1973), n-best paths, and the sum over all paths.

A path y_1..y_T over L labels scores

    start[y_1] + sum_t scores[t, y_t] + sum_{t>1} transitions[y_{t-1}, y_t] + end[y_T].

Contract of every function: ``scores`` (T, L), ``transitions`` (L, L) from row to column, ``start`` and ``end`` (L,),
all float64, C-contiguous, without NaN and +inf, T and L at least 1. Nothing is checked here. -inf forbids.
Among equal scores the path of the lower last label comes first, then of the lower label before it, and so on.
"""

from libc.math cimport INFINITY, exp, log
from libc.stdint cimport int64_t
from libc.string cimport memset

from viterbi.paths cimport Lattice, find, release, write_path

import numpy as np


cdef void forward(
    double* delta, const double* scores, const double* transitions, const double* start, Py_ssize_t length,
    Py_ssize_t labels
) noexcept nogil:
    """``delta`` (T, L), out: the score of the best path to each label at each step. Where it came from is not kept."""
    cdef Py_ssize_t t, i, j
    cdef double reached, candidate
    cdef const double* move
    for j in range(labels):
        delta[j] = start[j] + scores[j]
    for t in range(1, length):
        scores += labels
        for j in range(labels):
            delta[labels + j] = -INFINITY
        for i in range(labels):
            reached, move = delta[i], transitions + i * labels
            for j in range(labels):              # no branch: the compiler makes vector selects of it
                candidate = reached + move[j]
                delta[labels + j] = candidate if candidate > delta[labels + j] else delta[labels + j]
        delta += labels
        for j in range(labels):
            delta[j] += scores[j]


cdef int64_t best_origin(const double* delta, const double* moves, Py_ssize_t stride, Py_ssize_t labels) noexcept nogil:
    """The lowest label of the highest ``delta[i] + moves[i * stride]``; 0 if all are -inf."""
    cdef Py_ssize_t i
    cdef int64_t found = 0
    cdef double best = -INFINITY
    for i in range(labels):
        if delta[i] + moves[i * stride] > best:
            best, found = delta[i] + moves[i * stride], i
    return found


def best_path(
    const double[:, ::1] scores, const double[:, ::1] transitions, const double[::1] start, const double[::1] end
):
    """Find the best path.

    Returns
    -------
    (float, (T,) int64)
        Its score (-inf if every path is forbidden; the path then means nothing) and its labels.
    """
    cdef Py_ssize_t length = scores.shape[0], labels = scores.shape[1], t
    cdef double[:, ::1] delta = np.empty((length, labels))
    path = np.empty(length, np.int64)
    cdef int64_t[::1] labels_out = path
    cdef double best
    cdef int64_t last
    with nogil:
        forward(&delta[0, 0], &scores[0, 0], &transitions[0, 0], &start[0], length, labels)
        last = best_origin(&delta[length - 1, 0], &end[0], 1, labels)
        best = delta[length - 1, last] + end[last]
        labels_out[length - 1] = last
        for t in range(length - 1, 0, -1):
            last = best_origin(&delta[t - 1, 0], &transitions[0, last], labels, labels)
            labels_out[t - 1] = last
    return best, path


def n_best_paths(
    const double[:, ::1] scores, const double[:, ::1] transitions, const double[::1] start, const double[::1] end,
    Py_ssize_t k
):
    """Find the k best paths.

    Returns
    -------
    ((n,) float64, (n, T) int64)
        Scores, descending, and labels; n <= k, fewer where fewer paths are possible.
    """
    cdef Py_ssize_t length = scores.shape[0], labels = scores.shape[1], n = 0, rank
    cdef double[:, ::1] delta = np.empty((length, labels))
    cdef const double[:, ::1] moves = np.ascontiguousarray(transitions.T)
    cdef double[::1] found
    cdef int64_t[:, ::1] paths
    cdef int64_t path = 0
    cdef Lattice lattice
    memset(&lattice, 0, sizeof(Lattice))
    lattice.length, lattice.labels = length, labels
    lattice.scores, lattice.moves, lattice.end, lattice.delta = &scores[0, 0], &moves[0, 0], &end[0], &delta[0, 0]
    try:
        with nogil:
            forward(&delta[0, 0], &scores[0, 0], &transitions[0, 0], &start[0], length, labels)
            n = find(&lattice, k)
        if n >= 0:
            found, paths = np.empty(n), np.empty((n, length), np.int64)
            with nogil:
                for rank in range(n):
                    found[rank] = lattice.paths[path].score
                    if write_path(&lattice, path, &paths[rank, 0]) < 0:
                        n = -1
                        break
                    path = lattice.paths[path].next
        if n < 0:
            raise MemoryError(f"viterbi: no memory for {k} paths of {length} steps; ask for fewer by n_best")
        return np.asarray(found), np.asarray(paths)
    finally:
        release(&lattice)


def log_partition(
    const double[:, ::1] scores, const double[:, ::1] transitions, const double[::1] start, const double[::1] end
):
    """log of the sum of e^score over all paths (forward algorithm in the log domain); -inf if all are forbidden."""
    cdef Py_ssize_t length = scores.shape[0], labels = scores.shape[1], t, i, j
    cdef double[::1] alpha = np.empty(labels), grown = np.empty(labels), top = np.empty(labels)
    cdef double best = -INFINITY, total = 0.0
    with nogil:
        for j in range(labels):
            alpha[j] = start[j] + scores[0, j]
        for t in range(1, length):
            for j in range(labels):
                top[j], grown[j] = -INFINITY, 0.0
            for i in range(labels):
                for j in range(labels):
                    if alpha[i] + transitions[i, j] > top[j]:
                        top[j] = alpha[i] + transitions[i, j]
            for i in range(labels):
                for j in range(labels):
                    if top[j] > -INFINITY:
                        grown[j] += exp(alpha[i] + transitions[i, j] - top[j])
            for j in range(labels):
                alpha[j] = top[j] + log(grown[j]) + scores[t, j] if top[j] > -INFINITY else -INFINITY
        for j in range(labels):
            best = max(best, alpha[j] + end[j])
        if best > -INFINITY:
            for j in range(labels):
                total += exp(alpha[j] + end[j] - best)
            best += log(total)
    return best
