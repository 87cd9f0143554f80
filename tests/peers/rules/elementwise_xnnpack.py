"""LiteRT's default session: XNNPACK's arithmetic where it takes the operation (`"litert"`).

Operations and types that are not here run in TFLite's own kernels; `expect` falls back to `elementwise_tflite`, which states
those that equal the reference kernels.
"""

import numpy as np

import elementwise_tflite as tflite
import gemmlowp as g
import gemmlowp16
from elementwise_tflite import centred
from float32 import f32
from problem import Problem


def add(p: Problem, sign: int = 1) -> np.ndarray:
    """Fixed point with a 21-bit multiplier for the larger ratio; ties up. Ratios outside [2^-10, 2^8): TFLite's own kernel."""
    (_, sa, za), (_, sb, zb) = p.inputs
    ra, rb = f32(sa) / f32(p.output[0]), f32(sb) / f32(p.output[0])
    if not all(2.0**-10 <= ratio < 256 for ratio in (ra, rb)):
        return tflite.add(p, sign)
    exponent = int(np.floor(np.log2(np.float64(max(ra, rb)))))
    shift = 20 - exponent
    ma = int(np.rint(np.float64(ra) * 2.0**shift))
    mb = int(np.rint(np.float64(rb) * 2.0**shift)) * sign
    bias = (1 << (shift - 1)) - ma * za - mb * zb
    total = (p.inputs[0][0].astype(np.int64) * ma + p.inputs[1][0].astype(np.int64) * mb + bias) >> shift
    return p.clamp(total + p.output[1])


def sub(p: Problem) -> np.ndarray:
    """`add` with a negative second multiplier."""
    return add(p, -1)


def mul(p: Problem) -> np.ndarray:
    """`rne(f32(product) * ((s_a * s_b) / s_out)) + z`."""
    (_, sa, _), (_, sb, _) = p.inputs
    scale = f32(sa) * f32(sb) / f32(p.output[0])
    product = (centred(p.inputs[0]) * centred(p.inputs[1])).astype(f32)
    return p.clamp(np.rint(product * scale).astype(np.float64) + p.output[1])


def eight_bits(v, multiplier: int) -> np.ndarray:
    """`(v * m + 128) >> 8`."""
    return (v * multiplier + 128) >> 8


def requantize(p: Problem) -> np.ndarray:
    """A multiplier with 8 fraction bits, for ratios in [2^-8, 2^7]."""
    ratio = f32(p.inputs[0][1]) / f32(p.output[0])
    return p.clamp(eight_bits(centred(p.inputs[0]), int(np.rint(f32(256) * ratio))) + p.output[1])


def leaky_relu(p: Problem) -> np.ndarray:
    """As `requantize`, with a multiplier for each sign; outside XNNPACK's range TFLite's own kernel."""
    ratio = f32(p.inputs[0][1]) / f32(p.output[0])
    slope = f32(ratio * f32(p.attributes["alpha"]))
    if not (1 / 256 <= ratio <= 128 and 1 / 256 <= abs(slope) and -127.99609375 <= slope <= 128):
        return tflite.expect(p, "litert-ref")
    above = int(np.rint(f32(256) * ratio))
    below = int(np.rint(f32(256) * slope))
    v = centred(p.inputs[0])
    return p.clamp(np.where(v >= 0, eight_bits(v, above), eight_bits(v, below)) + p.output[1])


def mean(p: Problem) -> np.ndarray:
    """`rne(f32(sum q) * m + z')`, `m = (s_in / s_out) * (1 / n)`, `z' = z_out - f32(n * z_in) * m`: codes are not centred."""
    codes, scale, zero_point = p.inputs[0]
    axes = tuple(p.attributes["axes"])
    count = int(np.prod([codes.shape[axis] for axis in axes]))
    multiplier = f32(f32(scale) / f32(p.output[0])) * (f32(1) / f32(count))
    total = codes.astype(np.int64).sum(axis=axes, keepdims=p.attributes["keep_dims"]).astype(f32)
    offset = f32(p.output[1]) - f32(count * zero_point) * multiplier
    return p.clamp(np.rint(total * multiplier + offset))


def table(p: Problem, function) -> np.ndarray:
    """A table of 256: `rne(f((q - z) * s_in) * (1 / s_out) + z_out)`, ties to the even code."""
    codes, scale, zero_point = p.inputs[0]
    real = (np.arange(-128, 128) - zero_point).astype(f32) * f32(scale)
    y = np.rint(function(real) * (f32(1) / f32(p.output[0])) + f32(p.output[1]))
    return p.clamp(y)[codes.astype(np.int64) + 128]


def sigmoid(p: Problem) -> np.ndarray:
    """The logistic in a table, as `e / (1 + e)` in f64."""
    logistic = lambda x: np.exp(x) / (1 + np.exp(x))
    return table(p, lambda x: tflite.exact(logistic, np.clip(x, -100, 100)))


def tanh(p: Problem) -> np.ndarray:
    """tanh in a table."""
    return table(p, lambda x: tflite.exact(np.tanh, x))


def softmax(p: Problem) -> np.ndarray:
    """TFLite's own kernel: exp from an f32 table, f32 sum in order, half away from zero."""
    codes, scale, _ = p.inputs[0]
    steps = np.arange(256)
    exp_table = np.exp((-f32(scale) * steps.astype(f32)).astype(np.float64)).astype(f32)
    x = codes.astype(np.int64)
    terms = exp_table[x.max(axis=-1, keepdims=True) - x]
    total = np.zeros(terms.shape[:-1], f32)
    for i in range(terms.shape[-1]):
        total = total + terms[..., i]
    inverse = f32(1) / (total * f32(p.output[0]))
    return p.clamp(tflite.round_half_away(terms * inverse[..., None]).astype(np.float64) + p.output[1])


def add_int16(p: Problem) -> np.ndarray:
    """TFLite's own kernel: the two shifts of each operand in one, so that it is rounded once. Shapes that differ: the reference."""
    if p.inputs[0][0].shape != p.inputs[1][0].shape:
        return tflite.add(p)
    (_, sa, _), (_, sb, _) = p.inputs
    sa, sb, so = tflite.f64(sa), tflite.f64(sb), tflite.f64(p.output[0])
    twice = 2 * max(sa, sb)
    (ma, ea), (mb, eb) = g.quantize_multiplier(sa / twice), g.quantize_multiplier(sb / twice)
    total = g.multiply(centred(p.inputs[0]), ma, 15 + ea) + g.multiply(centred(p.inputs[1]), mb, 15 + eb)
    return p.clamp(g.multiply(total, *g.quantize_multiplier(twice / (so * 32768))))


def short_doublings(p: Problem):
    """Doublings to steps of 2^-12 of an int16 logistic or tanh that runs in 16-bit gemmlowp; `None` for others."""
    exponents = {"sigmoid": [-12], "tanh": [-12, -11]}.get(p.op, []) if p.dtype == "int16" else []
    exponent = tflite.power_of_two_exponent(p.inputs[0][1]) if exponents else None
    return exponent + 12 if exponent in exponents else None


def is_covered(p: Problem) -> bool:
    """Whether the rule is stated. Not stated: int8 requantization by ratios outside [2^-8, 2^7], which XNNPACK leaves to a kernel
    of TFLite's with a rounding of its own."""
    if p.op == "requantize" and p.dtype == p.output_dtype == "int8":
        return 1 / 256 <= f32(p.inputs[0][1]) / f32(p.output[0]) <= 128
    return True


OWN = {f.__name__: f for f in (add, sub, mul, requantize, leaky_relu, mean, sigmoid, tanh, softmax)}


def expect(p: Problem) -> np.ndarray:
    """Output codes of `"litert"`."""
    if p.dtype == "int8" and p.output_dtype == "int8" and p.op in OWN:
        return OWN[p.op](p)
    if p.op == "add":
        return add_int16(p)
    if short_doublings(p) is not None:
        x = gemmlowp16.saturate(p.inputs[0][0].astype(np.int64) << short_doublings(p))
        return getattr(gemmlowp16, {"sigmoid": "logistic", "tanh": "tanh"}[p.op])(x).astype(np.int16)
    return tflite.expect(p, "litert-ref")
