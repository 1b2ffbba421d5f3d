"""``Vec``: a Numba value that is one vector register.

Its data model is LLVM's ``<L x T>``, so that each operation below compiles to exactly one instruction where the CPU has
it. Loads and stores take a C-contiguous 1-D array and an element offset; they need no alignment and check no bounds.

=====================  =========================================================
``load(a, i)``         L values from ``a[i:i+L]``
``store(a, i, v)``     the same back; ``store_n`` only the first ``n`` lanes
``keep_n(x, n, y)``     the first ``n`` lanes of ``x``, the others of ``y``
``splat(a, x)``        L copies of the scalar ``x``, as wide as ``load(a, ...)``
``fma(x, y, z)``       ``x * y + z``, rounded once
``+ - * / -x``         lane by lane; ``vabs vsqrt`` likewise
``vmin(x, bound)``     ``bound`` where x is above it; NaN stays NaN (``vmax`` likewise)
=====================  =========================================================
"""

import operator
from typing import Any

from llvmlite import ir
from numba import extending, types
from numba.core import cgutils
from numba.extending import (
    lower_builtin,
    models,
    register_model,
    type_callable,
)

from .host import REGISTERS
from .lanes import Lane

__all__ = [
    "Tile",
    "Vec",
    "fma",
    "keep_n",
    "lanes_of",
    "lanewise",
    "load",
    "load_n",
    "splat",
    "store",
    "store_n",
    "vabs",
    "vmax",
    "vmin",
    "vsqrt",
]

intrinsic: Any = extending.intrinsic  # what it decorates is called without the typing context


class Vec(types.Type):
    """Numba type of one register that holds `count` values of the float type `scalar`."""

    def __init__(self, scalar: types.Float, count: int):
        self.scalar = scalar
        self.count = count
        super().__init__(name=f"Vec({scalar}, {count})")


@register_model(Vec)
class VecModel(models.PrimitiveModel):
    """A Vec is an LLVM first-class vector: it lives in a register, never in memory of its own."""

    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, llvm_vector(fe_type))


def llvm_scalar(scalar: types.Float) -> ir.Type:
    """Return LLVM's type for one lane."""
    return ir.FloatType() if scalar == types.float32 else ir.DoubleType()


def llvm_vector(vec: Vec) -> ir.Type:
    """Return LLVM's vector type for `vec`."""
    return ir.VectorType(llvm_scalar(vec.scalar), vec.count)


def lanes(scalar: types.Float) -> int:
    """Return the number of lanes of the Numba float type `scalar` on this CPU."""
    return REGISTERS.lanes(scalar.bitwidth // 8)


def vec_of(array: types.Array) -> Vec:
    """Return the Vec type that loads from `array` give."""
    if not isinstance(array.dtype, types.Float):
        raise TypeError(f"vector loads need a float array, not {array.dtype}")
    return Vec(array.dtype, lanes(array.dtype))


# --- code generation helpers, shared with tile.py ------------------------------------------------------------------


def element_pointer(context, builder, array_type, array, index):
    """Emit the address of element `index` of a contiguous array."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def load_vector(builder, pointer, vec: Vec):
    """Emit an unaligned load of one register from `pointer`."""
    vector = llvm_vector(vec)
    return builder.load(builder.bitcast(pointer, vector.as_pointer()), align=vec.scalar.bitwidth // 8, typ=vector)


def store_vector(builder, value, pointer, vec: Vec):
    """Emit an unaligned store of one register to `pointer`."""
    builder.store(value, builder.bitcast(pointer, llvm_vector(vec).as_pointer()), align=vec.scalar.bitwidth // 8)


def broadcast(builder, scalar, vec: Vec):
    """Emit a register with every lane equal to `scalar`."""
    vector = llvm_vector(vec)
    undefined = ir.Constant(vector, ir.Undefined)
    index = ir.IntType(32)
    first = builder.insert_element(undefined, scalar, ir.Constant(index, 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(ir.VectorType(index, vec.count), [0] * vec.count))


# --- memory --------------------------------------------------------------------------------------------------------


@intrinsic
def load(typingctx, a, i):
    """``load(a, i)``: the register ``a[i:i+L]``."""
    vec = vec_of(a)

    def codegen(context, builder, signature, args):
        return load_vector(builder, element_pointer(context, builder, signature.args[0], args[0], args[1]), vec)

    return vec(a, types.intp), codegen


@intrinsic
def store(typingctx, a, i, v):
    """``store(a, i, v)``: write the register to ``a[i:i+L]``."""

    def codegen(context, builder, signature, args):
        pointer = element_pointer(context, builder, signature.args[0], args[0], args[1])
        store_vector(builder, args[2], pointer, signature.args[2])
        return context.get_dummy_value()

    return types.void(a, types.intp, v), codegen


def lane_mask(builder, n, vec: Vec):
    """Emit the mask whose lanes 0 to `n` - 1 are on: none for n <= 0, all for n >= L."""
    wide = ir.VectorType(n.type, vec.count)
    undefined = ir.Constant(wide, ir.Undefined)
    ramp = ir.Constant(wide, list(range(vec.count)))
    count = builder.shuffle_vector(
        builder.insert_element(undefined, n, ir.Constant(ir.IntType(32), 0)),
        undefined,
        ir.Constant(ir.VectorType(ir.IntType(32), vec.count), [0] * vec.count),
    )
    return builder.icmp_signed("<", ramp, count)


def _alignment(vec: Vec):
    return ir.Constant(ir.IntType(32), vec.scalar.bitwidth // 8)


def masked_load(builder, pointer, mask, vec: Vec):
    """Emit a load of the lanes that are on in `mask`, and zeros in the others, which are not read."""
    vector = llvm_vector(vec)
    pointer = builder.bitcast(pointer, vector.as_pointer())
    name = f"llvm.masked.load.v{vec.count}f{vec.scalar.bitwidth}.p0"
    kind = ir.FunctionType(vector, [pointer.type, ir.IntType(32), mask.type, vector])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    return builder.call(function, [pointer, _alignment(vec), mask, ir.Constant(vector, None)])


def masked_store(builder, value, pointer, mask, vec: Vec):
    """Emit a store of the lanes that are on in `mask`."""
    vector = llvm_vector(vec)
    pointer = builder.bitcast(pointer, vector.as_pointer())
    name = f"llvm.masked.store.v{vec.count}f{vec.scalar.bitwidth}.p0"
    kind = ir.FunctionType(ir.VoidType(), [vector, pointer.type, ir.IntType(32), mask.type])
    function = cgutils.get_or_insert_function(builder.module, kind, name)
    builder.call(function, [value, pointer, _alignment(vec), mask])


@intrinsic
def load_n(typingctx, a, i, n):
    """``load_n(a, i, n)``: ``a[i:i+n]`` and zeros in the lanes from `n` on, which are not read."""
    vec = vec_of(a)

    def codegen(context, builder, signature, args):
        pointer = element_pointer(context, builder, signature.args[0], args[0], args[1])
        return masked_load(builder, pointer, lane_mask(builder, args[2], vec), vec)

    return vec(a, types.intp, types.intp), codegen


@intrinsic
def store_n(typingctx, a, i, v, n):
    """``store_n(a, i, v, n)``: write only the first `n` lanes, to ``a[i:i+n]``."""

    def codegen(context, builder, signature, args):
        vec = signature.args[2]
        pointer = element_pointer(context, builder, signature.args[0], args[0], args[1])
        masked_store(builder, args[2], pointer, lane_mask(builder, args[3], vec), vec)
        return context.get_dummy_value()

    return types.void(a, types.intp, v, types.intp), codegen


@intrinsic
def keep_n(typingctx, x, n, other):
    """``keep_n(x, n, other)``: the first `n` lanes of `x`, and those of `other` from there on."""

    def codegen(context, builder, signature, args):
        return builder.select(lane_mask(builder, args[1], signature.args[0]), args[0], args[2])

    return x(x, types.intp, x), codegen


# --- lane by lane: on one register or on every register of a tile ---------------------------------------------------


class Tile(types.Type):
    """Numba type of `rows` x `columns` registers of the type `vec`; ``tile.py`` says what it is for."""

    def __init__(self, vec: Vec, rows: int, columns: int):
        self.vec = vec
        self.rows = rows
        self.columns = columns
        super().__init__(name=f"Tile({vec}, {rows}, {columns})")


@register_model(Tile)
class TileModel(models.PrimitiveModel):
    """An LLVM array of vectors, row by row."""

    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.ArrayType(llvm_vector(fe_type.vec), fe_type.rows * fe_type.columns))


def assemble(builder, tile: Tile, vectors):
    """Emit the tile that consists of `vectors`, row by row."""
    value = ir.Constant(ir.ArrayType(llvm_vector(tile.vec), tile.rows * tile.columns), ir.Undefined)
    for position, vector in enumerate(vectors):
        value = builder.insert_value(value, vector, position)
    return value


def registers(builder, kind, value):
    """Return the registers of a Vec or Tile value as a list."""
    if isinstance(kind, Vec):
        return [value]
    return [builder.extract_value(value, place) for place in range(kind.rows * kind.columns)]


def vec_like(kind) -> Vec:
    """Return the Vec type of a Vec, of a Tile's registers, or of what loads from an array give."""
    if isinstance(kind, Vec):
        return kind
    return kind.vec if isinstance(kind, Tile) else vec_of(kind)


def _lane_by_lane(function):
    """Return the code generator that applies `function` of Lanes to every register of its operands."""

    def codegen(context, builder, signature, args):
        kind = signature.args[0]
        vec = vec_like(kind)
        operands = zip(*(registers(builder, kind, value) for value in args), strict=True)
        results = [function(*(Lane(builder, vec, value) for value in operand)).value for operand in operands]
        return assemble(builder, kind, results) if isinstance(kind, Tile) else results[0]

    return codegen


def lanewise(function):
    """Make `function` of one to three Lanes callable in kernels, on Vecs or on whole Tiles."""
    codegen = _lane_by_lane(function)

    def one(typingctx, x):
        return x(x), codegen

    def two(typingctx, x, y):
        return x(x, y), codegen

    def three(typingctx, x, y, z):
        return x(x, y, z), codegen

    made = (one, two, three)[function.__code__.co_argcount - 1]
    made.__doc__ = function.__doc__
    return intrinsic(made)


def _is_register(kind) -> bool:
    return isinstance(kind, Vec | Tile)


@intrinsic
def splat(typingctx, a, x):
    """``splat(a, x)``: a Vec (or a Tile, where `a` is one) like those of `a`, every lane ``x``."""
    vec = vec_like(a)
    result = a if isinstance(a, Tile) else vec

    def codegen(context, builder, signature, args):
        value = broadcast(builder, context.cast(builder, args[1], signature.args[1], vec.scalar), vec)
        if isinstance(result, Tile):
            return assemble(builder, result, [value] * (result.rows * result.columns))
        return value

    return result(a, x), codegen


def lanes_of(a):
    """Return how many lanes a load from array `a` has (a compile-time constant in kernels)."""
    return REGISTERS.lanes(a.itemsize)


@type_callable(lanes_of)
def _type_lanes_of(context):
    return lambda a: types.intp if isinstance(a, types.Array) else None


@lower_builtin(lanes_of, types.Array)
def _emit_lanes_of(context, builder, signature, args):  # an inlined overload would have callers typed once more
    return context.get_constant(types.intp, lanes(signature.args[0].dtype))


# --- arithmetic ----------------------------------------------------------------------------------------------------


def _operator(op, arity: int):
    """Let the Python operator `op` work on Vecs and on Tiles in kernels."""

    @type_callable(op)
    def type_op(context):
        def unary(x):
            return x if _is_register(x) else None

        def binary(x, y):
            return x if _is_register(x) and x == y else None

        return unary if arity == 1 else binary

    for kind in (Vec, Tile):
        lower_builtin(op, *[kind] * arity)(_lane_by_lane(op))


for _op in (operator.add, operator.sub, operator.mul, operator.truediv):
    _operator(_op, 2)
_operator(operator.neg, 1)


@lanewise
def fma(x, y, z):
    """``fma(x, y, z)``: ``x * y + z`` with one rounding."""
    return x.fma(y, z)


@lanewise
def vmin(x, bound):
    """``vmin(x, bound)``: `bound` in the lanes where x is above it; NaN stays NaN."""
    return x.at_most(bound)


@lanewise
def vmax(x, bound):
    """``vmax(x, bound)``: `bound` in the lanes where x is below it; NaN stays NaN."""
    return x.at_least(bound)


@lanewise
def vabs(x):
    """``vabs(x)``: the absolute value of every lane."""
    return x.call("fabs")


@lanewise
def vsqrt(x):
    """``vsqrt(x)``: the square root of every lane."""
    return x.call("sqrt")
