"""Candidates of a beam and a bounded heap of them, the worst at the root."""

from libc.stdint cimport int64_t

cdef struct Candidate:
    double score     # what it is ranked by
    int64_t slot     # rank of its parent in the lane
    int64_t id


cdef inline bint better(const Candidate* a, const Candidate* b) noexcept nogil:
    """Higher score, then lower parent, then lower id: a total order."""
    if a.score != b.score:
        return a.score > b.score
    if a.slot != b.slot:
        return a.slot < b.slot
    return a.id < b.id


cdef inline void sift_down(Candidate* heap, Py_ssize_t n, Py_ssize_t at) noexcept nogil:
    """Restore the heap (worst candidate at the root) below one place."""
    cdef Py_ssize_t child
    cdef Candidate moving = heap[at]
    while True:
        child = 2 * at + 1
        if child >= n:
            break
        if child + 1 < n and better(&heap[child], &heap[child + 1]):
            child += 1
        if not better(&moving, &heap[child]):
            break
        heap[at] = heap[child]
        at = child
    heap[at] = moving


cdef inline void sift_up(Candidate* heap, Py_ssize_t at) noexcept nogil:
    cdef Py_ssize_t parent
    cdef Candidate moving = heap[at]
    while at > 0:
        parent = (at - 1) // 2
        if not better(&heap[parent], &moving):
            break
        heap[at] = heap[parent]
        at = parent
    heap[at] = moving


cdef inline void sort_best_first(Candidate* items, Py_ssize_t n) noexcept nogil:
    """Heapsort in place; works from any order."""
    cdef Py_ssize_t i
    cdef Candidate last
    for i in range(n // 2 - 1, -1, -1):
        sift_down(items, n, i)
    for i in range(n - 1, 0, -1):
        last = items[i]
        items[i] = items[0]
        items[0] = last
        sift_down(items, i, 0)
