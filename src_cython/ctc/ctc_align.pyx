"""Forced alignment: the likeliest CTC path of a known label string (Viterbi 1967; Graves et al. 2006, section 4.1).

The string of L labels becomes S = 2 L + 1 states, a blank before, between and after the labels. A path moves each
frame by 0 or 1 state, or by 2 where that skips a blank between different labels.

Back-pointers for all T frames would need T * S bytes. Here the scores are kept every K = ceil(sqrt(T)) frames, and
the back-pointers of one block of K frames at a time are made again from there on the way back: about
(8 T / K + K) S bytes for twice the time.
"""

import numpy as np

from libc.math cimport INFINITY, sqrt
from libc.stdint cimport int32_t, uint8_t
from libc.string cimport memcpy

ctypedef fused real:
    float
    double


cdef inline void advance(const real* row, const int32_t* label, Py_ssize_t states, Py_ssize_t frame,
                         Py_ssize_t frames, double* alpha, uint8_t* move) noexcept nogil:
    """Move the scores of all states by one frame, in place, from the last state to the first.

    row : (V,) log-probabilities; label : (S,); alpha : (S,) in/out, -inf before frame 0 but for a 0 that stands
    for the place before state 0; move : (S,) out, states moved by, or NULL.
    """
    # Only states that frame 0 can reach and that can reach the end: s < 2 (frame + 1), s >= S - 2 (T - frame).
    cdef Py_ssize_t s = min(states, 2 * (frame + 1)) - 1
    cdef Py_ssize_t first = max(0, states - 2 * (frames - frame))
    cdef double best
    cdef uint8_t step
    while s >= first:
        if frame == 0:
            best = 0.0
            step = 0
        else:
            best = alpha[s]
            step = 0
            if s >= 1 and alpha[s - 1] > best:
                best = alpha[s - 1]
                step = 1
            if s >= 2 and s % 2 == 1 and label[s] != label[s - 2] and alpha[s - 2] > best:
                best = alpha[s - 2]
                step = 2
        alpha[s] = best + row[label[s]]
        if move != NULL:
            move[s] = step
        s -= 1


def viterbi(const real[:, ::1] log_probs, const int32_t[::1] ids, int32_t blank, int32_t[::1] path):
    """Find the best path.

    Parameters
    ----------
    log_probs : (T, V) float32 or float64
        T >= 1.
    ids : (L,) int32
        Labels, none of them the blank.
    blank : int
    path : (T,) int32, out
        State of each frame: odd states 2 i + 1 are label i, even ones blank.

    Returns
    -------
    float
        Natural-log probability of the path; -inf where there is none, and ``path`` is then not written.
    """
    cdef Py_ssize_t frames = log_probs.shape[0], states = 2 * ids.shape[0] + 1, t, s, block, first, last
    cdef Py_ssize_t stride = <Py_ssize_t>sqrt(<double>frames)
    cdef double score
    if stride * stride < frames:
        stride += 1
    labels_array = np.full(states, blank, dtype=np.int32)
    labels_array[1::2] = ids
    alpha_array = np.full(states, -np.inf)
    saved_array = np.empty(((frames + stride - 1) // stride, states))
    move_array = np.zeros((stride, states), dtype=np.uint8)
    cdef const int32_t[::1] label = labels_array
    cdef double[::1] alpha = alpha_array
    cdef double[:, ::1] saved = saved_array
    cdef uint8_t[:, ::1] move = move_array
    with nogil:
        for t in range(frames):
            if t % stride == 0:
                memcpy(&saved[t // stride, 0], &alpha[0], states * sizeof(double))
            advance(&log_probs[t, 0], &label[0], states, t, frames, &alpha[0], NULL)
        s = states - 1
        if states > 1 and alpha[states - 2] > alpha[states - 1]:
            s = states - 2
        score = alpha[s]
        if score > -INFINITY:
            block = (frames - 1) // stride
            while block >= 0:
                first = block * stride
                last = min(first + stride, frames)
                memcpy(&alpha[0], &saved[block, 0], states * sizeof(double))
                for t in range(first, last):
                    advance(&log_probs[t, 0], &label[0], states, t, frames, &alpha[0], &move[t - first, 0])
                for t in range(last - 1, first - 1, -1):
                    path[t] = <int32_t>s
                    s -= move[t - first, s]
                block -= 1
    return score
