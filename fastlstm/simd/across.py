"""What goes across the lanes of a register.

=====================  =========================================================
``hsum hmax``          one scalar out of all lanes, in a fixed order
``join(x, y)``         the lower halves of both; ``upper(x)``: the upper half of one, below
=====================  =========================================================
"""

from llvmlite import ir

from .vector import intrinsic, llvm_scalar

__all__ = ["hmax", "hsum", "join", "upper"]


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
