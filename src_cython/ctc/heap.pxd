"""The two binary heaps of the CTC beam: the W best candidates, worst on top, and the labels of a row, best on top.

Both orders are total (equal values are decided by place), so that what they give depends on nothing but the input.
"""

from libc.stdint cimport int32_t, int64_t


cdef struct Candidate:
    double total
    int64_t order         # place in the walk: decides between equal totals
    int32_t source        # entry that it comes from
    int32_t label         # NONE: the prefix stays


cdef struct Ranked:
    double p
    int32_t label


cdef inline bint worse(const Candidate* a, const Candidate* b) noexcept nogil:
    return a.total < b.total or (a.total == b.total and a.order > b.order)


cdef inline void sink(Candidate* heap, Py_ssize_t size, Py_ssize_t place) noexcept nogil:
    """Restore the heap (worst candidate on top) below ``place``."""
    cdef Candidate moving = heap[place]
    cdef Py_ssize_t child
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and worse(&heap[child + 1], &heap[child]):
            child += 1
        if not worse(&heap[child], &moving):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = moving


cdef inline void rise(Candidate* heap, Py_ssize_t place) noexcept nogil:
    cdef Candidate moving = heap[place]
    cdef Py_ssize_t above
    while place > 0:
        above = (place - 1) // 2
        if not worse(&moving, &heap[above]):
            break
        heap[place] = heap[above]
        place = above
    heap[place] = moving


cdef inline bint behind(const Ranked* a, const Ranked* b) noexcept nogil:
    return a.p < b.p or (a.p == b.p and a.label > b.label)


cdef inline void sink_label(Ranked* heap, Py_ssize_t size, Py_ssize_t place) noexcept nogil:
    """Restore the heap (likeliest label on top) below ``place``."""
    cdef Ranked moving = heap[place]
    cdef Py_ssize_t child
    while True:
        child = 2 * place + 1
        if child >= size:
            break
        if child + 1 < size and behind(&heap[child], &heap[child + 1]):
            child += 1
        if not behind(&moving, &heap[child]):
            break
        heap[place] = heap[child]
        place = child
    heap[place] = moving
