"""``Lane``: a register as code generation sees it, so that formulas read as formulas.

A function of Lanes is written once as plain Python arithmetic; calling it emits the instructions. ``lanewise`` in
``vector.py`` turns it into something that kernels can call, at a hundredth of what compiling it as a kernel would cost.
"""

from typing import TypeAlias, Union

from llvmlite import ir
from numba.core import cgutils

__all__ = ["Lane"]

Operand: TypeAlias = Union["Lane", float]


class Lane:
    """The value `value` of the Vec type `vec`, with `builder` to emit what is done with it."""

    __slots__ = ("builder", "value", "vec")

    def __init__(self, builder, vec, value):
        self.builder = builder
        self.vec = vec
        self.value = value

    def constant(self, number: float) -> "Lane":
        """Return a register like this one, every lane `number`."""
        return Lane(self.builder, self.vec, ir.Constant(self.value.type, [number] * self.vec.count))

    def _of(self, other: Operand):
        return other.value if isinstance(other, Lane) else self.constant(other).value

    def _emit(self, instruction: str, *operands) -> "Lane":
        return Lane(self.builder, self.vec, getattr(self.builder, instruction)(*operands))

    def call(self, name: str, *others: Operand) -> "Lane":
        """Emit LLVM's intrinsic `name` for this vector type, such as ``llvm.fma.v8f32``."""
        vector = self.value.type
        kind = ir.FunctionType(vector, [vector] * (1 + len(others)))
        mangled = f"llvm.{name}.v{self.vec.count}f{self.vec.scalar.bitwidth}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, mangled)
        return self._emit("call", function, [self.value, *map(self._of, others)])

    def __add__(self, other: Operand) -> "Lane":
        return self._emit("fadd", self.value, self._of(other))

    def __sub__(self, other: Operand) -> "Lane":
        return self._emit("fsub", self.value, self._of(other))

    def __rsub__(self, other: Operand) -> "Lane":
        return self._emit("fsub", self._of(other), self.value)

    def __mul__(self, other: Operand) -> "Lane":
        return self._emit("fmul", self.value, self._of(other))

    def __truediv__(self, other: Operand) -> "Lane":
        return self._emit("fdiv", self.value, self._of(other))

    def __rtruediv__(self, other: Operand) -> "Lane":
        return self._emit("fdiv", self._of(other), self.value)

    def __neg__(self) -> "Lane":
        return self._emit("fneg", self.value)

    def fma(self, factor: Operand, term: Operand) -> "Lane":
        """Return ``self * factor + term``, rounded once."""
        return self.call("fma", factor, term)

    def at_most(self, bound: Operand) -> "Lane":
        """Return `bound` where this is above it; NaN stays NaN, which LLVM's own minimum does not promise."""
        limit = self._of(bound)
        return self._emit("select", self.builder.fcmp_ordered(">", self.value, limit), limit, self.value)

    def at_least(self, bound: Operand) -> "Lane":
        """Return `bound` where this is below it; NaN stays NaN."""
        limit = self._of(bound)
        return self._emit("select", self.builder.fcmp_ordered("<", self.value, limit), limit, self.value)

    def zero_below(self, bound: Operand) -> "Lane":
        """Return 0 where the size of this is below `bound`; NaN stays NaN."""
        small = self.builder.fcmp_ordered("<", self.call("fabs").value, self._of(bound))
        return self._emit("select", small, ir.Constant(self.value.type, None), self.value)

    def one_above(self, bound: Operand) -> "Lane":
        """Return 1 where this is above `bound`, else 0, also for NaN."""
        above = self.builder.fcmp_ordered(">", self.value, self._of(bound))
        return self._emit("select", above, self.constant(1.0).value, ir.Constant(self.value.type, None))

    def power_of_two(self) -> "Lane":
        """Return ``2 ** n`` where this is ``n + 1.5 * 2**m``, m the number of mantissa bits.

        Adding that constant to a number rounds it to a whole one and leaves it in the low bits of the mantissa, from
        where one shift takes it to the exponent: no conversion to integers, hence nothing undefined for NaN.
        """
        mantissa, bias = self._format
        whole = self.builder.shl(self.builder.bitcast(self.value, self._integers), self._bits(mantissa))
        return self._emit("bitcast", self.builder.add(whole, self._bits(bias << mantissa)), self.value.type)

    def exponent(self) -> "Lane":
        """Return the whole number n with ``2**n <= this < 2**(n + 1)``; of 0 one less than any other has.

        This is positive and no denormal number. The bits of the exponent become the low bits of the mantissa of
        ``2**m``, m the number of mantissa bits: that is a conversion to a float, without an instruction for it.
        """
        mantissa, bias = self._format
        integers = self._integers
        number = self.builder.lshr(self.builder.bitcast(self.value, integers), self._bits(mantissa))
        number = self.builder.or_(number, self._bits(bias + mantissa << mantissa))
        return self._emit("bitcast", number, self.value.type) - float(2**mantissa + bias)

    def significand(self) -> "Lane":
        """Return ``this / 2**n``, from 1 to less than 2, n being the `exponent`; of 0 it returns 1."""
        mantissa, bias = self._format
        low = self.builder.and_(self.builder.bitcast(self.value, self._integers), self._bits((1 << mantissa) - 1))
        return self._emit("bitcast", self.builder.or_(low, self._bits(bias << mantissa)), self.value.type)

    @property
    def _format(self) -> tuple[int, int]:
        """The number of mantissa bits, and what is added to an exponent where it is stored."""
        return (23, 127) if self.vec.scalar.bitwidth == 32 else (52, 1023)

    @property
    def _integers(self) -> ir.VectorType:
        return ir.VectorType(ir.IntType(self.vec.scalar.bitwidth), self.vec.count)

    def _bits(self, number: int) -> ir.Constant:
        return ir.Constant(self._integers, [number] * self.vec.count)
