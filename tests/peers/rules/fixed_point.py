"""From a sum to a code: the requantization of each engine, in numpy, on exact integers.

The numbers in parentheses are equations of docs/quantization.md. Sums come in as int64 arrays; multipliers as arrays that
broadcast against them. Nothing here is shared with crates/runtime, so agreement of the two is evidence.
"""

import numpy as np

f32, f64, i32, i64 = np.float32, np.float64, np.int32, np.int64


def multiplier_f32(x_scale, w_scale, y_scale) -> np.ndarray:
    """(Q10): (s_in * s_w) / s_out, each step in f32."""
    return (f32(x_scale) * np.asarray(w_scale, f32)).astype(f32) / f32(y_scale)


def multiplier_f64(x_scale, w_scale, y_scale) -> np.ndarray:
    """(Q40): s_in * s_w / s_out, each step in f64."""
    return f64(f32(x_scale)) * np.asarray(w_scale, f32).astype(f64) / f64(f32(y_scale))


def multiplier_mixed(x_scale, w_scale, y_scale) -> np.ndarray:
    """(Q41): the product in f32, the quotient in f64."""
    return (f32(x_scale) * np.asarray(w_scale, f32)).astype(f32).astype(f64) / f64(f32(y_scale))


def quantize_multiplier(real) -> tuple:
    """(Q42): M0 in [2^30, 2^31) and shift with real = M0 * 2^(shift - 31); zero below 2^-32."""
    fraction, shift = np.frexp(np.asarray(real, f64))
    # fraction * 2^31 is exact and positive, so adding one half and flooring rounds half away from zero.
    m0 = np.floor(fraction * f64(1 << 31) + 0.5).astype(i64)
    full = m0 == 1 << 31
    m0, shift = np.where(full, m0 // 2, m0), shift.astype(i64) + full
    flushed = shift < -31
    return np.where(flushed, 0, m0), np.where(flushed, 0, shift)


def high_mul(x, m0) -> np.ndarray:
    """(Q43): SaturatingRoundingDoublingHighMul of int32 x and m0 >= 0: (x * m0 + nudge) / 2^31, truncated towards zero."""
    product = np.asarray(x, i64) * np.asarray(m0, i64)
    nudged = product + np.where(product >= 0, 1 << 30, 1 - (1 << 30))
    return np.where(nudged >= 0, nudged >> 31, -((-nudged) >> 31))


def divide_by_power_half_away(x, exponent) -> np.ndarray:
    """(Q44): x / 2^exponent to nearest, ties away from zero."""
    x, exponent = np.asarray(x, i64), np.asarray(exponent, i64)
    mask = (i64(1) << exponent) - 1
    threshold = (mask >> 1) + (x < 0)
    return (x >> exponent) + ((x & mask) > threshold)


def divide_by_power_half_up(x, exponent) -> np.ndarray:
    """x / 2^exponent to nearest, ties towards plus infinity."""
    x, exponent = np.asarray(x, i64), np.asarray(exponent, i64)
    return (x + ((i64(1) << exponent) >> 1)) >> exponent


def wrap32(x) -> np.ndarray:
    """The int32 with the same low bits."""
    return np.asarray(x, i64).astype(np.uint32).astype(i32).astype(i64)


def gemmlowp(acc, real, divide=divide_by_power_half_away) -> np.ndarray:
    """(Q45): MultiplyByQuantizedMultiplier of an int32 sum."""
    m0, shift = quantize_multiplier(real)
    left, right = np.maximum(shift, 0), np.maximum(-shift, 0)
    return divide(high_mul(wrap32(np.asarray(acc, i64) << left), m0), right)


def ruy(acc, real) -> np.ndarray:
    """(Q46): as (Q45) with the second rounding half up."""
    return gemmlowp(acc, real, divide_by_power_half_up)


def gemmlowp64(acc, real) -> np.ndarray:
    """(Q47): MultiplyByQuantizedMultiplier of an int64 sum: a 15-bit multiplier, one rounding half up."""
    m0, shift = quantize_multiplier(real)
    reduced = np.where(m0 < 0x7FFF0000, (m0 + (1 << 15)) >> 16, 0x7FFF)
    total = 15 - shift
    return wrap32((np.asarray(acc, i64) * reduced + (i64(1) << (total - 1))) >> total)


def f64_half_away(acc, real) -> np.ndarray:
    """(Q48): round(f64(acc) * real), ties away from zero."""
    scaled = np.asarray(acc, i64).astype(f64) * np.asarray(real, f64)
    whole = np.trunc(scaled)
    return (whole + np.sign(scaled) * (np.abs(scaled - whole) >= 0.5)).astype(i64)


def fp32_rne(acc, real) -> np.ndarray:
    """(Q9) before the zero point: rne(f32(acc) * multiplier)."""
    return np.rint(np.asarray(acc, i64).astype(f32) * np.asarray(real, f32)).astype(f64)
