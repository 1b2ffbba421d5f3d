"""Memory for the row that sampling works on: one block a call, carved into the arrays of ``Row``."""

from cpython.mem cimport PyMem_RawMalloc
from libc.stdint cimport int32_t

from common.select cimport ROW_BLOCK, ROW_LANES
from sampling.filters cimport Row


cdef inline Py_ssize_t padded(Py_ssize_t size) noexcept nogil:
    """The size rounded up to a cache line."""
    return (size + 63) & ~<Py_ssize_t>63


cdef inline char* carve(char** free_space, Py_ssize_t size) noexcept nogil:
    cdef char* piece = free_space[0]
    free_space[0] += padded(size)
    return piece


cdef inline void* new_scratch(
    Row* row, void** e, int32_t** seen, Py_ssize_t V, Py_ssize_t itemsize
) except NULL:
    """One block for every array of the row; the caller frees it with PyMem_RawFree."""
    cdef Py_ssize_t reals = padded(V * itemsize), ints = padded(V * sizeof(int32_t))
    cdef Py_ssize_t blocks = padded((V // ROW_BLOCK + 2) * sizeof(double))
    cdef Py_ssize_t extra = padded((V // ROW_LANES + 2) * itemsize)
    cdef void* memory = PyMem_RawMalloc(5 * reals + extra + 2 * ints + blocks)
    cdef char* space = <char*>memory
    if memory == NULL:
        raise MemoryError(f"sampling could not allocate scratch for {V} columns")
    row.own = carve(&space, reals)
    e[0] = carve(&space, reals)
    row.sums = <double*>carve(&space, blocks)
    row.part = carve(&space, reals + extra)
    row.part_weight = carve(&space, reals)
    row.id_space = <int32_t*>carve(&space, ints)
    row.key = carve(&space, reals)
    seen[0] = <int32_t*>space
    return memory
