"""Dot products of rows: tiles whose registers are the running sums, lane by lane, of one product of two rows each.

Where rows are multiplied by rows (``A B^T``) and stand as they are, `dot_step` adds a register of each row at a time,
and `store_sums` adds up the lanes at the end, four products at once::

    acc = no_sums(R, a)                           # R x 4 registers
    for f in range(0, F, L):
        acc = dot_step(acc, a, i + f, a_stride, b, j + f, b_stride)
    store_sums(acc, out, o, out_stride)           # out[o + r * out_stride + c] = a[row r] . b[row c]

Each product is summed in an order that depends on F alone: lane by lane along the rows, then halves of the register,
quarters, and so on, as `across.hsum` does.
"""

from llvmlite import ir
from numba import types

from .lanes import Lane
from .tile import offset
from .vector import Tile, assemble, element_pointer, intrinsic, llvm_scalar, load_vector, vec_of

__all__ = ["WIDTH", "dot_step", "load_across", "no_sums", "store_sums"]

WIDTH = 4
"""Products of one left row that a tile holds: as many as the tile's columns."""


@intrinsic(prefer_literal=True)
def no_sums(typingctx, rows, a):
    """``no_sums(R, a)``: an R x 4 tile of zeros, of registers like those of `a`."""
    tile = Tile(vec_of(a), rows.literal_value, WIDTH)

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(tile), None)

    return tile(rows, a), codegen


@intrinsic
def load_across(typingctx, a, i, stride):
    """``load_across(a, i, stride)``: a 1 x 4 tile, column c is the register at ``a[i + c * stride]``."""
    tile = Tile(vec_of(a), 1, WIDTH)

    def codegen(context, builder, signature, args):
        array, index, step = args
        pointers = [
            element_pointer(context, builder, signature.args[0], array, offset(builder, index, c, step))
            for c in range(WIDTH)
        ]
        return assemble(builder, tile, [load_vector(builder, pointer, tile.vec) for pointer in pointers])

    return tile(a, types.intp, types.intp), codegen


@intrinsic
def dot_step(typingctx, tile, a, i, a_stride, b, j, b_stride):
    """``dot_step(tile, a, i, a_stride, b, j, b_stride)``: add one register of each row.

    To row r, column c goes ``a[i + r * a_stride] * b[j + c * b_stride]``, lane by lane.
    """

    def codegen(context, builder, signature, args):
        value, left, index, left_step, right, start, right_step = args
        kind, left_type, right_type = signature.args[0], signature.args[1], signature.args[4]

        def row(array_type, array, first, place, step):
            pointer = element_pointer(context, builder, array_type, array, offset(builder, first, place, step))
            return Lane(builder, kind.vec, load_vector(builder, pointer, kind.vec))

        rows = [row(left_type, left, index, r, left_step) for r in range(kind.rows)]
        for c in range(kind.columns):
            column = row(right_type, right, start, c, right_step)
            for r in range(kind.rows):
                place = r * kind.columns + c
                acc = Lane(builder, kind.vec, builder.extract_value(value, place))
                value = builder.insert_value(value, rows[r].fma(column, acc).value, place)
        return value

    return tile(tile, a, types.intp, types.intp, b, types.intp, types.intp), codegen


def _picked(builder, x, y, lanes):
    """Emit the vector of these lanes of x and, counted on, of y."""
    return builder.shuffle_vector(x, y, ir.Constant(ir.VectorType(ir.IntType(32), len(lanes)), lanes))


def _sums(builder, registers, count: int):
    """Emit the vector of the sums over the `count` lanes of each of four registers."""
    parts = count  # lanes that hold parts of one sum
    while len(registers) > 1:
        if parts == 1:  # registers of fewer lanes than four
            wide = list(range(2 * count))
            registers = [_picked(builder, x, y, wide) for x, y in zip(registers[::2], registers[1::2], strict=True)]
            count *= 2
            continue
        half, paired = parts // 2, []
        for x, y in zip(registers[::2], registers[1::2], strict=True):
            lower = [lane for lane in range(2 * count) if lane % parts < half]
            upper = [lane + half for lane in lower]
            paired.append(builder.fadd(_picked(builder, x, y, lower), _picked(builder, x, y, upper)))
        registers, parts = paired, half
    [sums] = registers
    while parts > 1:
        half = parts // 2
        lower = [lane for lane in range(count) if lane % parts < half]
        upper = [lane + half for lane in lower]
        sums = builder.fadd(_picked(builder, sums, sums, lower), _picked(builder, sums, sums, upper))
        count, parts = count // 2, half
    return sums


@intrinsic
def store_sums(typingctx, tile, a, i, stride):
    """``store_sums(tile, a, i, stride)``: row r, column c, its lanes added up, goes to ``a[i + r * stride + c]``."""

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        scalar = llvm_scalar(kind.vec.scalar)
        for r in range(kind.rows):
            row = [builder.extract_value(args[0], r * kind.columns + c) for c in range(kind.columns)]
            pointer = element_pointer(
                context, builder, signature.args[1], args[1], offset(builder, args[2], r, args[3])
            )
            four = ir.VectorType(scalar, WIDTH).as_pointer()
            sums = _sums(builder, row, kind.vec.count)
            builder.store(sums, builder.bitcast(pointer, four), align=kind.vec.scalar.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(tile, a, types.intp, types.intp), codegen
