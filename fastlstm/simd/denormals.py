"""Denormal numbers, below 1.2e-38 (float32) or 2.2e-308 (float64): kernels of products take and give zeros instead.

Gates that are shut leave them behind, and CPUs crawl on them: a product takes from a fifth more time to many times as
long. A thread's mode is its own: what a kernel was called with, it restores.

    mode = flush()
    ...
    restore(mode)
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils

from .vector import intrinsic

__all__ = ["flush", "restore"]

_ZEROS = 0x8040
"""Bits of x86's MXCSR: results that are denormal become zeros, and operands that are count as zeros."""


def _control(builder, name: str, word) -> None:
    """Emit the instruction that reads or writes MXCSR."""
    byte = ir.IntType(8).as_pointer()
    kind = ir.FunctionType(ir.VoidType(), [byte])
    builder.call(builder.module.declare_intrinsic(f"llvm.x86.sse.{name}", (), kind), [builder.bitcast(word, byte)])


def _has_mxcsr(builder) -> bool:
    """Tell whether the target is one for which something is done: elsewhere denormal numbers cost little."""
    return bool(builder.module.triple.startswith("x86_64"))


@intrinsic
def flush(typingctx):
    """``flush()``: from now on this thread has zeros for denormal numbers; return the mode before."""

    def codegen(context, builder, signature, args):
        if not _has_mxcsr(builder):
            return ir.Constant(ir.IntType(32), 0)
        word = cgutils.alloca_once(builder, ir.IntType(32))
        _control(builder, "stmxcsr", word)
        before = builder.load(word)
        builder.store(builder.or_(before, ir.Constant(before.type, _ZEROS)), word)
        _control(builder, "ldmxcsr", word)
        return before

    return types.uint32(), codegen


@intrinsic
def restore(typingctx, mode):
    """``restore(mode)``: go back to what `flush` returned."""

    def codegen(context, builder, signature, args):
        if _has_mxcsr(builder):
            word = cgutils.alloca_once(builder, ir.IntType(32))
            builder.store(args[0], word)
            _control(builder, "ldmxcsr", word)
        return context.get_dummy_value()

    return types.void(types.uint32), codegen
