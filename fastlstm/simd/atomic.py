"""Words of memory through which cores tell each other how far they are.

``store_release`` makes all that this core wrote before visible to every core that reads its value by ``load_acquire``.
Both cost nothing on x86 and one instruction on ARM.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.np.arrayobj import populate_array

from .vector import element_pointer, intrinsic

__all__ = ["array_at", "fetch_add", "load_acquire", "pause", "store_release", "yield_core"]


@intrinsic
def store_release(typingctx, a, i, value):
    """``store_release(a, i, value)``: write the int64 element i, after everything written before."""

    def codegen(context, builder, signature, args):
        pointer = element_pointer(context, builder, signature.args[0], args[0], args[1])
        builder.store_atomic(args[2], pointer, "release", 8)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.int64), codegen


@intrinsic
def load_acquire(typingctx, a, i):
    """``load_acquire(a, i)``: the int64 element i, before everything read afterwards."""

    def codegen(context, builder, signature, args):
        pointer = element_pointer(context, builder, signature.args[0], args[0], args[1])
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(a, types.intp), codegen


@intrinsic
def fetch_add(typingctx, a, i, value):
    """``fetch_add(a, i, value)``: add to the int64 element i at once and return what it was; release and acquire."""

    def codegen(context, builder, signature, args):
        pointer = element_pointer(context, builder, signature.args[0], args[0], args[1])
        return builder.atomic_rmw("add", pointer, args[2], "acq_rel")

    return types.int64(a, types.intp, types.int64), codegen


@intrinsic
def array_at(typingctx, like, address, count):
    """``array_at(like, address, count)``: the 1-D array there, of `like`'s type. The caller keeps its memory alive."""

    def codegen(context, builder, signature, args):
        array = context.make_array(signature.return_type)(context, builder)
        itemsize = context.get_constant(types.intp, signature.return_type.dtype.bitwidth // 8)
        populate_array(
            array,
            data=builder.inttoptr(args[1], array.data.type),
            shape=cgutils.pack_array(builder, [args[2]]),
            strides=cgutils.pack_array(builder, [itemsize]),
            itemsize=itemsize,
            meminfo=None,
        )
        return array._getvalue()

    return like(like, types.int64, types.intp), codegen


@intrinsic
def pause(typingctx):
    """``pause()``: leave the core's resources to its other thread for a moment; nothing where no such hint exists."""

    def codegen(context, builder, signature, args):
        if builder.module.triple.startswith(("x86_64", "i686")):
            kind = ir.FunctionType(ir.VoidType(), [])
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), kind), [])
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def yield_core(typingctx):
    """``yield_core()``: let another thread that the system has put on this core run first; nothing on Windows."""

    def codegen(context, builder, signature, args):
        if "windows" not in builder.module.triple:
            kind = ir.FunctionType(ir.IntType(32), [])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, "sched_yield"), [])
        return context.get_dummy_value()

    return types.void(), codegen
