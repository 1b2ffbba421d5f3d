"""Best paths of a linear chain (Viterbi 1967; Forney 1973), n-best paths, and the sum over all paths.

A path y_1..y_T over L labels scores

    start[y_1] + sum_t scores[t, y_t] + sum_{t>1} transitions[y_{t-1}, y_t] + end[y_T].

Contract of every function: ``scores`` (T, L), ``transitions`` (L, L) from row to column, ``start`` and ``end`` (L,),
all float64, C-contiguous, without NaN and +inf, T and L at least 1. Nothing is checked here. -inf forbids.
Among equal scores the path of the lower last label comes first, then of the lower label before it, and so on.
"""

from libc.math cimport INFINITY, exp, log
from libc.stdint cimport int64_t

from beam_heap cimport Candidate, better, sift_down, sift_up, sort_best_first

import numpy as np


def best_path(
    const double[:, ::1] scores, const double[:, ::1] transitions, const double[::1] start, const double[::1] end
):
    """Find the best path.

    Returns
    -------
    (float, (T,) int64)
        Its score (-inf if every path is forbidden; the path then means nothing) and its labels.
    """
    cdef Py_ssize_t length = scores.shape[0], labels = scores.shape[1], t, i, j
    cdef int64_t[:, ::1] came_from = np.zeros((length, labels), np.int64)
    cdef double[::1] delta = np.empty(labels), grown = np.empty(labels)
    path = np.empty(length, np.int64)
    cdef int64_t[::1] labels_out = path
    cdef double best = -INFINITY, reached, candidate
    cdef const double* move
    cdef double* top
    cdef int64_t* origin
    cdef int64_t last = 0
    with nogil:
        for j in range(labels):
            delta[j] = start[j] + scores[0, j]
        for t in range(1, length):
            top, origin = &grown[0], &came_from[t, 0]
            for j in range(labels):
                top[j] = -INFINITY
            for i in range(labels):
                reached, move = delta[i], &transitions[i, 0]
                for j in range(labels):          # no branch: the compiler makes vector selects of it
                    candidate = reached + move[j]
                    origin[j] = i if candidate > top[j] else origin[j]
                    top[j] = candidate if candidate > top[j] else top[j]
            for j in range(labels):
                top[j] += scores[t, j]
            delta, grown = grown, delta
        for j in range(labels):
            if delta[j] + end[j] > best:
                best, last = delta[j] + end[j], j
        for t in range(length - 1, -1, -1):
            labels_out[t] = last
            last = came_from[t, last]
    return best, path


cdef void keep(Candidate* heap, Py_ssize_t* n, Py_ssize_t k, const Candidate* candidate) noexcept nogil:
    """Put a candidate into a heap of the best k."""
    if n[0] < k:
        heap[n[0]] = candidate[0]
        sift_up(heap, n[0])
        n[0] += 1
    elif better(candidate, heap):
        heap[0] = candidate[0]
        sift_down(heap, k, 0)


cdef Py_ssize_t best_arrivals(
    Candidate* heap, const double* delta, const double* move, Py_ssize_t stride, Py_ssize_t labels, Py_ssize_t k
) noexcept nogil:
    """The best k of ``delta[i, rank] + move[i * stride]``, best first; how many are possible."""
    cdef Py_ssize_t i, rank, n = 0
    cdef Candidate candidate
    for i in range(labels):
        for rank in range(k):
            candidate.score, candidate.slot, candidate.id = delta[i * k + rank] + move[i * stride], i, rank
            # Ranks descend: when one does not enter, those behind it do not either.
            if not candidate.score > -INFINITY or (n == k and not better(&candidate, heap)):
                break
            keep(heap, &n, k, &candidate)
    sort_best_first(heap, n)
    return n


def n_best_paths(
    const double[:, ::1] scores, const double[:, ::1] transitions, const double[::1] start, const double[::1] end,
    Py_ssize_t k
):
    """Find the k best paths: each label keeps its k best arrivals (list Viterbi, Seshadri and Sundberg 1994).

    Returns
    -------
    ((n,) float64, (n, T) int64)
        Scores, descending, and labels; n <= k, fewer where fewer paths are possible.
    """
    cdef Py_ssize_t length = scores.shape[0], labels = scores.shape[1], t, j, rank, n
    cdef int64_t[:, :, ::1] came_from = np.zeros((length, labels, k), np.int64)   # origin * k + rank there
    cdef double[:, ::1] delta = np.full((labels, k), -np.inf), grown = np.empty((labels, k))
    cdef Candidate[::1] heap = np.empty(k, np.dtype([("score", np.float64), ("slot", np.int64), ("id", np.int64)]))
    cdef int64_t at
    with nogil:
        for j in range(labels):
            delta[j, 0] = start[j] + scores[0, j]
        for t in range(1, length):
            for j in range(labels):
                n = best_arrivals(&heap[0], &delta[0, 0], &transitions[0, j], labels, labels, k)
                for rank in range(n):
                    grown[j, rank] = heap[rank].score + scores[t, j]
                    came_from[t, j, rank] = heap[rank].slot * k + heap[rank].id
                for rank in range(n, k):
                    grown[j, rank] = -INFINITY
            delta, grown = grown, delta
        n = best_arrivals(&heap[0], &delta[0, 0], &end[0], 1, labels, k)
    found, paths = np.empty(n), np.empty((n, length), np.int64)
    cdef double[::1] found_view = found
    cdef int64_t[:, ::1] path_view = paths
    with nogil:
        for rank in range(n):
            found_view[rank] = heap[rank].score
            at = heap[rank].slot * k + heap[rank].id
            for t in range(length - 1, -1, -1):
                path_view[rank, t] = at // k
                at = came_from[t, at // k, at % k]
    return found, paths


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
