"""Uniform doubles straight out of a numpy.random bit generator."""

from cpython.pycapsule cimport PyCapsule_GetPointer
from numpy.random cimport bitgen_t


cdef inline int draw_uniforms(object bit_generator, double* u, Py_ssize_t n) except -1:
    """Fill u with n uniforms in [0, 1), in order, exactly as ``Generator.random(n)`` would.

    Holds the generator's own lock meanwhile, so that threads may share a generator.
    """
    cdef bitgen_t* source
    cdef Py_ssize_t i
    with bit_generator.lock:
        source = <bitgen_t*>PyCapsule_GetPointer(bit_generator.capsule, "BitGenerator")
        for i in range(n):
            u[i] = source.next_double(source.state)
    return 0
