"""gemmlowp's fixed-point arithmetic on int64 arrays that hold int32 values: what TFLite's reference kernels compute with.

Source: gemmlowp `fixedpoint/fixedpoint.h` and TFLite `kernels/internal/{common,quantization_util}` (double rounding). An int32
overflow in the originals would be undefined; the rules that use these functions stay inside int32.
"""

import math

import numpy as np

INT32_MIN, INT32_MAX = -(1 << 31), (1 << 31) - 1


def quantize_multiplier(real: float) -> tuple:
    """`(m, shift)` with `real ~ m * 2^(shift - 31)`, `m` in [2^30, 2^31); `(0, 0)` for 0 and for what is too small."""
    if real == 0:
        return 0, 0
    fraction, shift = math.frexp(real)
    multiplier = int(math.floor(fraction * (1 << 31) + 0.5))
    if multiplier == 1 << 31:
        multiplier, shift = multiplier // 2, shift + 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        return INT32_MAX, 30
    return multiplier, shift


def rounding_divide_by_pot(x, exponent: int):
    """`x / 2^exponent`, ties away from zero."""
    x = np.asarray(x, np.int64)
    mask = (1 << exponent) - 1
    remainder = x & mask
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + (remainder > threshold)


def srdhm(a, b):
    """Saturating rounding doubling high multiply: `a * b / 2^31`, ties up."""
    product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
    return np.minimum((product + (1 << 30)) >> 31, INT32_MAX)


def multiply(x, multiplier: int, shift: int):
    """`x * multiplier * 2^(shift - 31)` with both roundings of `MultiplyByQuantizedMultiplier`."""
    left, right = max(shift, 0), max(-shift, 0)
    return rounding_divide_by_pot(srdhm(np.asarray(x, np.int64) << left, multiplier), right)


def multiply_int64(x, multiplier: int, shift: int):
    """The form for int64 sums (16-bit activations): multiplier in 16 bits, one rounding, ties up."""
    reduced = (multiplier + (1 << 15)) >> 16 if multiplier < 0x7FFF0000 else 0x7FFF
    total_shift = 15 - shift
    return (np.asarray(x, np.int64) * reduced + (1 << (total_shift - 1))) >> total_shift


def saturating_rounding_multiply_by_pot(x, exponent: int):
    """`x * 2^exponent` with saturation to int32 (exponent > 0), or rounding (exponent < 0)."""
    if exponent <= 0:
        return rounding_divide_by_pot(x, -exponent)
    return np.clip(np.asarray(x, np.int64) << exponent, INT32_MIN, INT32_MAX)


def exp_on_interval(a):
    """`exp(x)` for x in [-1/4, 0), raw Q0.31 to raw Q0.31: Taylor around -1/8."""
    constant, third = 1895147668, 715827883
    x = np.asarray(a, np.int64) + (1 << 28)
    x2 = srdhm(x, x)
    x3 = srdhm(x2, x)
    x4 = srdhm(x2, x2)
    x4_over_4 = rounding_divide_by_pot(x4, 2)
    tail = rounding_divide_by_pot(srdhm(x4_over_4 + x3, third) + x2, 1)
    return constant + srdhm(constant, x + tail)


EXP_BARREL = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)


def exp_on_negative_values(a, integer_bits: int):
    """`exp(x)` for x <= 0, raw Q(integer_bits).(31 - integer_bits) to raw Q0.31."""
    a = np.asarray(a, np.int64)
    fractional = 31 - integer_bits
    quarter = 1 << (fractional - 2)
    modulo = (a & (quarter - 1)) - quarter
    result = exp_on_interval(saturating_rounding_multiply_by_pot(modulo, integer_bits))
    remainder = modulo - a
    for i, multiplier in enumerate(EXP_BARREL):
        exponent = i - 2
        if integer_bits > exponent:
            bit = 1 << (fractional + exponent)
            result = np.where(remainder & bit, srdhm(result, multiplier), result)
    if integer_bits > 5:
        result = np.where(a < -(1 << (36 - integer_bits)), 0, result)
    return np.where(a == 0, INT32_MAX, result)


def rounding_half_sum(a, b):
    """`(a + b) / 2`, ties away from zero."""
    total = np.asarray(a, np.int64) + np.asarray(b, np.int64)
    nudged = total + np.where(total >= 0, 1, -1)
    return np.where(nudged >= 0, nudged >> 1, -((-nudged) >> 1))


def _newton(half_denominator):
    """`2 / denominator`-ish: three steps of Newton-Raphson for `1 / (2 * half_denominator)`, raw Q2.29."""
    x = 1515870810 + srdhm(half_denominator, -1010580540)
    for _ in range(3):
        product = srdhm(half_denominator, x)
        one_minus = (1 << 29) - product
        # Q2.29 times Q2.29 is Q4.27, rescaled to Q2.29.
        x = x + saturating_rounding_multiply_by_pot(srdhm(x, one_minus), 2)
    return x


def one_over_one_plus_x(a):
    """`1 / (1 + x)` for x in [0, 1], raw Q0.31 to raw Q0.31."""
    x = _newton(rounding_half_sum(a, INT32_MAX))
    return saturating_rounding_multiply_by_pot(x, 1)


def one_minus_x_over_one_plus_x(a):
    """`(1 - x) / (1 + x)` for x in [0, 1], raw Q0.31 to raw Q0.31."""
    x = _newton(rounding_half_sum(a, INT32_MAX))
    return saturating_rounding_multiply_by_pot(x - (1 << 29), 2)


def logistic(a, integer_bits: int):
    """`1 / (1 + exp(-x))`, raw Q(integer_bits) to raw Q0.31."""
    a = np.asarray(a, np.int64)
    on_positive = one_over_one_plus_x(exp_on_negative_values(-np.abs(a), integer_bits))
    result = np.where(a > 0, on_positive, INT32_MAX - on_positive)
    return np.where(a == 0, 1 << 30, result)


def tanh(a, integer_bits: int):
    """`tanh(x)`, raw Q(integer_bits) to raw Q0.31."""
    a = np.asarray(a, np.int64)
    # exp(-2 |x|): the raw value is read with one more integer bit.
    on_negative = one_minus_x_over_one_plus_x(exp_on_negative_values(-np.abs(a), integer_bits + 1))
    result = np.where(a < 0, -on_negative, on_negative)
    return np.where(a == 0, 0, result)


def reciprocal(x: int, integer_bits: int) -> tuple:
    """`(1 / x, bits over the unit)` of a sum in Q(integer_bits): the first raw Q0.31."""
    headroom = 32 - int(x).bit_length()
    shifted = np.int64((int(x) << headroom) - (1 << 31))
    return one_over_one_plus_x(shifted), integer_bits - headroom
