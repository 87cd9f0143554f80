"""f32 arithmetic with each rounding where it is written."""

import numpy as np

f32 = np.float32


def fma(a, b, c) -> np.ndarray:
    """a * b + c of f32 operands with one rounding: the product is exact in f64, the sum is rounded to odd, then to f32."""
    product = np.asarray(a, np.float64) * np.asarray(b, np.float64)
    c = np.asarray(c, np.float64)
    total = product + c
    back = total - product
    error = (product - (total - back)) + (c - back)
    bits = np.atleast_1d(total).view(np.int64)
    even = (error != 0) & (bits & 1 == 0)
    away = (error > 0) == (total > 0)
    odd = np.where(even, np.where(away, bits + 1, bits - 1), bits)
    return odd.view(np.float64).astype(f32).reshape(np.shape(total))


def round_half_away(x) -> np.ndarray:
    """Ties away from zero, in the type of `x`."""
    x = np.asarray(x)
    whole = np.trunc(x)
    return whole + np.where(np.abs(x - whole) >= 0.5, np.sign(x), 0).astype(x.dtype)
