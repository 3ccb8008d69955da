"""Classes of 64 bytes at a time, as bits of two 64-bit numbers: where ASCII words begin and end without a look at each byte.

Invariant: bit k tells of data[index + k] alone; data must hold 64 bytes from there on.
"""

from __future__ import annotations

from typing import Any

import numba as nb
from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

_WIDTH = 64
_byte, _bits = ir.IntType(8), ir.IntType(64)


def _classes_of_64(typingctx, data, index):
    """(letters, digits, high): bits of the ASCII letters, the ASCII digits and the bytes above 127 in data[index:index + 64]."""

    def codegen(context, builder, signature, args):
        vector = ir.VectorType(_byte, _WIDTH)

        def all_of(value):
            return ir.Constant(vector, [value] * _WIDTH)

        array = context.make_array(signature.args[0])(context, builder, args[0])
        place = cgutils.gep_inbounds(builder, array.data, args[1])
        found = builder.load(builder.bitcast(place, vector.as_pointer()))
        found.align = 1
        folded = builder.sub(builder.or_(found, all_of(0x20)), all_of(ord("a")))
        letters = builder.icmp_unsigned("<", folded, all_of(26))
        digits = builder.icmp_unsigned("<", builder.sub(found, all_of(ord("0"))), all_of(10))
        high = builder.icmp_signed("<", found, all_of(0))
        masks = [builder.bitcast(bits, _bits) for bits in (letters, digits, high)]
        return context.make_tuple(builder, signature.return_type, masks)

    return nb.types.UniTuple(nb.uint64, 3)(data, nb.int64), codegen


classes_of_64: Any = intrinsic(_classes_of_64)


def _bits_of(name: str) -> Any:
    def count(typingctx, value):
        def codegen(context, builder, signature, args):
            return getattr(builder, name)(args[0], ir.Constant(ir.IntType(1), 0))

        return nb.int64(nb.uint64), codegen

    return intrinsic(count)


lowest_bit: Any = _bits_of("cttz")  # place of the lowest bit that is set; 64 for 0
