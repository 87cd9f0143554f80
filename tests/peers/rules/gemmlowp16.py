"""gemmlowp's fixed-point functions on 16-bit numbers, as LiteRT's own kernels compute them for int16 codes in steps of 2^-12.

`gemmlowp.py` with 15 bits for 31: constants lose their 16 lowest bits, sums that can overflow saturate.
"""

import numpy as np

import gemmlowp as g

HIGHEST = 32767


def saturate(x) -> np.ndarray:
    """Into 16 bits."""
    return np.clip(x, -32768, HIGHEST)


def high_product(a, b) -> np.ndarray:
    """`a * b / 2^15`, ties up."""
    return saturate((np.asarray(a, np.int64) * np.asarray(b, np.int64) + (1 << 14)) >> 15)


def constant(raw: int) -> int:
    """A 32-bit constant in 16 bits."""
    return int(g.rounding_divide_by_pot(raw, 16))


def exp_on_interval(a) -> np.ndarray:
    """`exp(x)` for x in [-1/4, 0), Q0.15 to Q0.15."""
    eighth = constant(1895147668)
    x = a + (1 << 12)
    x2 = high_product(x, x)
    x3, x4 = high_product(x2, x), high_product(x2, x2)
    tail = high_product(g.rounding_divide_by_pot(x4, 2) + x3, constant(715827883)) + x2
    return saturate(eighth + high_product(eighth, x + g.rounding_divide_by_pot(tail, 1)))


def exp_on_negative_values(a, integer_bits: int) -> np.ndarray:
    """`exp(x)` for x <= 0 of `integer_bits`, to Q0.15."""
    fractional = 15 - integer_bits
    quarter = 1 << (fractional - 2)
    modulo = (a & (quarter - 1)) - quarter
    result = exp_on_interval(saturate(modulo << integer_bits))
    remainder = modulo - a
    for i, multiplier in enumerate(g.EXP_BARREL):
        if integer_bits > i - 2:
            bit = 1 << (fractional + i - 2)
            result = np.where(remainder & bit, high_product(result, constant(multiplier)), result)
    return np.where(a == 0, HIGHEST, result)


def newton(a) -> np.ndarray:
    """Twice `1 / (1 + x)` for x in [0, 1], Q0.15 to Q2.13."""
    half_denominator = (a + HIGHEST + 1) >> 1
    x = constant(1515870810) + high_product(half_denominator, constant(-1010580540))
    for _ in range(3):
        error = (1 << 13) - high_product(half_denominator, x)
        x = x + saturate(high_product(x, error) << 2)
    return x


def logistic(a) -> np.ndarray:
    """Q3.12 to Q0.15."""
    on_positive = saturate(newton(exp_on_negative_values(-np.abs(a), 3)) << 1)
    return np.where(a == 0, 1 << 14, np.where(a > 0, on_positive, HIGHEST - on_positive))


def tanh(a) -> np.ndarray:
    """Q3.12 to Q0.15."""
    magnitude = saturate((newton(exp_on_negative_values(-np.abs(a), 4)) - (1 << 13)) << 2)
    return np.where(a == 0, 0, np.where(a < 0, -magnitude, magnitude))
