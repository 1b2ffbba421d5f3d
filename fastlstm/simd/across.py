"""What goes across the lanes of a register.

=====================  =========================================================
``hsum hmax``          one scalar out of all lanes, in a fixed order
``join(x, y)``         the lower halves of both; ``upper(x)``: the upper half of one, below
``eight_zeros()``      eight sums in float64; ``add_squares(sums, a, i)`` adds the squares of ``a[i:i+8]`` to them,
                       ``add_to_first(sums, x)`` a number to the first; ``sum_of_eight(sums)`` is their sum
=====================  =========================================================
"""

from llvmlite import ir
from numba import types

from .vector import Vec, element_pointer, intrinsic, llvm_scalar, llvm_vector

__all__ = ["add_squares", "add_to_first", "eight_zeros", "hmax", "hsum", "join", "sum_of_eight", "upper"]

_EIGHT = Vec(types.float64, 8)
"""Eight float64 numbers, whatever the width of a register: LLVM takes as many registers as it needs."""


def _fold(emit):
    """Make the intrinsic that folds a register's lanes pairwise (halves, quarters, ...) with `emit`."""

    def fold(typingctx, x):
        def codegen(context, builder, signature, args):
            vec = signature.args[0]
            value, count, i32 = args[0], vec.count, ir.IntType(32)
            while count > 1:
                count //= 2
                half = ir.VectorType(llvm_scalar(vec.scalar), count * 2)
                undefined = ir.Constant(half, ir.Undefined)
                low = ir.Constant(ir.VectorType(i32, count), list(range(count)))
                high = ir.Constant(ir.VectorType(i32, count), list(range(count, 2 * count)))
                left = builder.shuffle_vector(value, undefined, low)
                right = builder.shuffle_vector(value, undefined, high)
                value = emit(builder, left, right)
            return builder.extract_element(value, ir.Constant(i32, 0))

        return x.scalar(x), codegen

    return intrinsic(fold)


hsum = _fold(lambda builder, a, b: builder.fadd(a, b))
hmax = _fold(lambda builder, a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b))


@intrinsic
def join(typingctx, x, y):
    """``join(x, y)``: the lower half of x, then that of y."""

    def codegen(context, builder, signature, args):
        count = signature.return_type.count
        picked = [*range(count // 2), *range(count, count + count // 2)]
        return builder.shuffle_vector(*args, ir.Constant(ir.VectorType(ir.IntType(32), count), picked))

    return x(x, y), codegen


@intrinsic
def upper(typingctx, x):
    """``upper(x)``: the upper half of x in the lower lanes; what is in the others is of no use."""

    def codegen(context, builder, signature, args):
        count = signature.return_type.count
        picked = [*range(count // 2, count)] * 2
        return builder.shuffle_vector(args[0], args[0], ir.Constant(ir.VectorType(ir.IntType(32), count), picked))

    return x(x), codegen


@intrinsic
def eight_zeros(typingctx):
    """``eight_zeros()``: eight sums, all 0."""

    def codegen(context, builder, signature, args):
        return ir.Constant(llvm_vector(_EIGHT), [0.0] * 8)

    return _EIGHT(), codegen


@intrinsic
def add_squares(typingctx, sums, a, i):
    """``add_squares(sums, a, i)``: to each of the eight sums the square, in float64, of one of ``a[i:i+8]``."""

    def codegen(context, builder, signature, args):
        array = signature.args[1]
        few = ir.VectorType(llvm_scalar(array.dtype), 8)
        pointer = builder.bitcast(element_pointer(context, builder, array, args[1], args[2]), few.as_pointer())
        values = builder.load(pointer, align=array.dtype.bitwidth // 8, typ=few)
        if array.dtype == types.float32:
            values = builder.fpext(values, llvm_vector(_EIGHT))
        return builder.fadd(args[0], builder.fmul(values, values))

    return sums(sums, a, types.intp), codegen


@intrinsic
def add_to_first(typingctx, sums, x):
    """``add_to_first(sums, x)``: the eight sums, the first of them ``x`` larger."""

    def codegen(context, builder, signature, args):
        first = ir.Constant(ir.IntType(32), 0)
        return builder.insert_element(args[0], builder.fadd(builder.extract_element(args[0], first), args[1]), first)

    return sums(sums, types.float64), codegen


@intrinsic
def sum_of_eight(typingctx, sums):
    """``sum_of_eight(sums)``: neighbours first, ``((s0 + s1) + (s2 + s3)) + ((s4 + s5) + (s6 + s7))``."""

    def codegen(context, builder, signature, args):
        parts = [builder.extract_element(args[0], ir.Constant(ir.IntType(32), n)) for n in range(8)]
        while len(parts) > 1:
            parts = [builder.fadd(*parts[n : n + 2]) for n in range(0, len(parts), 2)]
        return parts[0]

    return types.float64(sums), codegen
