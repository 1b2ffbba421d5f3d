"""``Tile(R, C)``: an R x C block of registers, the accumulators of a matrix product.

A tile is an LLVM array of vectors that is only ever taken apart with constant indices, so that every element stays an
SSA value and hence a register. A product is a loop of rank-1 updates::

    acc = ...                                     # R x C registers
    for k in range(K):
        acc = rank1(acc, a, i + k * step, stride, b, j + k * C * L)

Broadcast the R rows first, then load one vector of weights and use it for all rows at once: the other order spills.
"""

from llvmlite import ir
from numba import types

from .host import REGISTERS
from .lanes import Lane
from .vector import (
    Tile,
    assemble,
    broadcast,
    element_pointer,
    intrinsic,
    lane_mask,
    load_vector,
    masked_load,
    masked_store,
    store_vector,
    vec_of,
)

__all__ = [
    "COLUMNS",
    "ROWS",
    "Tile",
    "load_rows",
    "load_rows_n",
    "never_inline",
    "offset",
    "prefetch",
    "rank1",
    "splat_columns",
    "store_rows",
    "store_rows_n",
    "transpose",
]

COLUMNS = 4
"""Vectors in a tile's row: one for each of the four gates of an LSTM."""

_LINE = 64
"""Bytes that most CPUs fetch at once."""

ROWS = 6 if REGISTERS.number >= 32 else 3
"""Rows of the tallest tile: 6 x 4 accumulators of 32 registers, 3 x 4 of 16, leave room for the operands."""


def offset(builder, base, scale: int, stride):
    """Emit ``base + scale * stride``."""
    return builder.add(base, builder.mul(ir.Constant(base.type, scale), stride)) if scale else base


def _column_masks(builder, n, tile: Tile):
    """Emit a mask for each of the tile's columns: on where the row still has values, `n` in all."""
    return [
        lane_mask(builder, builder.sub(n, ir.Constant(n.type, c * tile.vec.count)), tile.vec)
        for c in range(tile.columns)
    ]


@intrinsic(prefer_literal=True)
def load_rows(typingctx, rows, columns, a, i, stride):
    """``load_rows(R, C, a, i, stride)``: row r, column c is the register at ``a[i + r * stride + c * L]``."""
    tile = Tile(vec_of(a), rows.literal_value, columns.literal_value)

    def codegen(context, builder, signature, args):
        _, _, array, index, step = args
        vectors = []
        for r in range(tile.rows):
            start = element_pointer(context, builder, signature.args[2], array, offset(builder, index, r, step))
            vectors += [
                load_vector(builder, builder.gep(start, [ir.Constant(index.type, c * tile.vec.count)]), tile.vec)
                for c in range(tile.columns)
            ]
        return assemble(builder, tile, vectors)

    return tile(rows, columns, a, types.intp, types.intp), codegen


@intrinsic(prefer_literal=True)
def splat_columns(typingctx, rows, columns, a, i):
    """``splat_columns(R, C, a, i)``: every row is the C registers at ``a[i:]`` (the biases of a panel)."""
    tile = Tile(vec_of(a), rows.literal_value, columns.literal_value)

    def codegen(context, builder, signature, args):
        start = element_pointer(context, builder, signature.args[2], args[2], args[3])
        row = [
            load_vector(builder, builder.gep(start, [ir.Constant(args[3].type, c * tile.vec.count)]), tile.vec)
            for c in range(tile.columns)
        ]
        return assemble(builder, tile, row * tile.rows)

    return tile(rows, columns, a, types.intp), codegen


@intrinsic
def rank1(typingctx, tile, a, i, stride, b, j):
    """``rank1(tile, a, i, stride, b, j)``: add column ``a[i + r * stride]`` times row ``b[j + c * L]``."""

    def codegen(context, builder, signature, args):
        value, left, index, step, right, start = args
        kind, left_type, right_type = signature.args[0], signature.args[1], signature.args[4]

        def splat_at(pointer):
            return Lane(builder, kind.vec, broadcast(builder, builder.load(pointer), kind.vec))

        rows = [
            splat_at(element_pointer(context, builder, left_type, left, offset(builder, index, r, step)))
            for r in range(kind.rows)
        ]
        pointer = element_pointer(context, builder, right_type, right, start)
        for c in range(kind.columns):
            address = builder.gep(pointer, [ir.Constant(start.type, c * kind.vec.count)])
            weights = Lane(builder, kind.vec, load_vector(builder, address, kind.vec))
            for r in range(kind.rows):
                place = r * kind.columns + c
                acc = Lane(builder, kind.vec, builder.extract_value(value, place))
                value = builder.insert_value(value, rows[r].fma(weights, acc).value, place)
        return value

    return tile(tile, a, types.intp, types.intp, b, types.intp), codegen


@intrinsic(prefer_literal=True)
def load_rows_n(typingctx, rows, columns, a, i, stride, n):
    """``load_rows_n(R, C, a, i, stride, n)``: like ``load_rows``, but only the first `n` values of each row exist."""
    tile = Tile(vec_of(a), rows.literal_value, columns.literal_value)

    def codegen(context, builder, signature, args):
        _, _, array, index, step, n = args
        masks = _column_masks(builder, n, tile)
        vectors = []
        for r in range(tile.rows):
            start = element_pointer(context, builder, signature.args[2], array, offset(builder, index, r, step))
            vectors += [
                masked_load(
                    builder,
                    builder.gep(start, [ir.Constant(index.type, c * tile.vec.count)]),
                    masks[c],
                    tile.vec,
                )
                for c in range(tile.columns)
            ]
        return assemble(builder, tile, vectors)

    return tile(rows, columns, a, types.intp, types.intp, types.intp), codegen


@intrinsic(prefer_literal=True)
def prefetch(typingctx, columns, a, i):
    """``prefetch(C, a, i)``: have the memory of C registers from ``a[i]`` on brought near, and go on; a hint.

    It may lie outside of the array.
    """
    vec = vec_of(a)
    size = columns.literal_value * vec.count * vec.scalar.bitwidth // 8

    def codegen(context, builder, signature, args):
        byte, word = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        read, near, data = (ir.Constant(word, value) for value in (0, 2, 1))
        hint = builder.module.declare_intrinsic("llvm.prefetch", (byte,), kind)
        start = builder.bitcast(element_pointer(context, builder, signature.args[1], args[1], args[2]), byte)
        for place in range(0, size, _LINE):
            builder.call(hint, [builder.gep(start, [ir.Constant(word, place)]), read, near, data])
        return context.get_dummy_value()

    return types.void(columns, a, types.intp), codegen


@intrinsic
def never_inline(typingctx):
    """``never_inline()``: make the function that says so no part of its callers, whose values would need registers."""

    def codegen(context, builder, signature, args):
        builder.function.attributes.add("noinline")
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def store_rows(typingctx, tile, a, i, stride):
    """``store_rows(tile, a, i, stride)``: write row r, column c to ``a[i + r * stride + c * L]``."""

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        for r in range(kind.rows):
            start = element_pointer(context, builder, signature.args[1], args[1], offset(builder, args[2], r, args[3]))
            for c in range(kind.columns):
                store_vector(
                    builder,
                    builder.extract_value(args[0], r * kind.columns + c),
                    builder.gep(start, [ir.Constant(args[2].type, c * kind.vec.count)]),
                    kind.vec,
                )
        return context.get_dummy_value()

    return types.void(tile, a, types.intp, types.intp), codegen


@intrinsic
def store_rows_n(typingctx, tile, a, i, stride, n):
    """``store_rows_n(tile, a, i, stride, n)``: like ``store_rows``, but write only `n` values of each row."""

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        masks = _column_masks(builder, args[4], kind)
        for r in range(kind.rows):
            start = element_pointer(context, builder, signature.args[1], args[1], offset(builder, args[2], r, args[3]))
            for c in range(kind.columns):
                masked_store(
                    builder,
                    builder.extract_value(args[0], r * kind.columns + c),
                    builder.gep(start, [ir.Constant(args[2].type, c * kind.vec.count)]),
                    masks[c],
                    kind.vec,
                )
        return context.get_dummy_value()

    return types.void(tile, a, types.intp, types.intp, types.intp), codegen


def _exchange(builder, low, high, distance: int, lanes: int):
    """Emit two rows whose off-diagonal blocks of `distance` lanes have changed places: a stage of a transposition."""
    picked: tuple[list[int], list[int]] = ([], [])
    for lane in range(lanes):
        upper = bool(lane & distance)
        picked[0].append(lanes + lane - distance if upper else lane)
        picked[1].append(lanes + lane if upper else lane + distance)
    index = ir.VectorType(ir.IntType(32), lanes)
    return tuple(builder.shuffle_vector(low, high, ir.Constant(index, lanes_of_row)) for lanes_of_row in picked)


@intrinsic
def transpose(typingctx, a, i, a_stride, scale, b, j, b_stride):
    """``transpose(a, i, a_stride, scale, b, j, b_stride)``: write an L x L block, turned and times `scale`.

    ``b[j + c * b_stride + r] = scale * a[i + r * a_stride + c]``
    """
    vec = vec_of(a)

    def codegen(context, builder, signature, args):
        source, first, step, scale, target, place, target_step = args
        factor = broadcast(builder, context.cast(builder, scale, signature.args[3], vec.scalar), vec)
        rows = []
        for r in range(vec.count):
            start = element_pointer(context, builder, signature.args[0], source, offset(builder, first, r, step))
            rows.append(builder.fmul(load_vector(builder, start, vec), factor))
        distance = vec.count // 2
        while distance:
            for r in range(vec.count):
                if not r & distance:
                    pair = rows[r], rows[r + distance]
                    rows[r], rows[r + distance] = _exchange(builder, *pair, distance, vec.count)
            distance //= 2
        for c in range(vec.count):
            start = element_pointer(context, builder, signature.args[4], target, offset(builder, place, c, target_step))
            store_vector(builder, rows[c], start, vec)
        return context.get_dummy_value()

    return types.void(a, types.intp, types.intp, types.float64, b, types.intp, types.intp), codegen
