"""The integer arithmetic of TFLite's reference kernels, for LiteRT's `BUILTIN_REF` (`"litert-ref"`) and TFLite-Micro (`"tflm"`).

`expect(problem, engine)` gives the output codes. Multipliers are made in f64 unless a rule says f32. Images are `[N, H, W, C]`.
"""

import math

import numpy as np

import gemmlowp as g
from float32 import f32, round_half_away
from problem import Problem
from sigmoid_table import SIGMOID_TABLE


def centred(operand) -> np.ndarray:
    """Codes minus the zero point."""
    codes, _, zero_point = operand
    return codes.astype(np.int64) - zero_point


def f64(scale) -> float:
    """An f32 scale as the f64 it is."""
    return float(f32(scale))


def add(p: Problem, sign: int = 1) -> np.ndarray:
    """Both operands on the grid of twice the larger scale, `2^shift` finer; sum; to the output's grid."""
    shift = 15 if p.dtype == "int16" else 20
    (_, sa, _), (_, sb, _) = p.inputs
    sa, sb, so = f64(sa), f64(sb), f64(p.output[0])
    twice = 2 * max(sa, sb)
    a = g.multiply(centred(p.inputs[0]) << shift, *g.quantize_multiplier(sa / twice))
    b = g.multiply(centred(p.inputs[1]) << shift, *g.quantize_multiplier(sb / twice))
    total = g.multiply(a + sign * b, *g.quantize_multiplier(twice / ((1 << shift) * so)))
    return p.clamp(total + p.output[1])


def sub(p: Problem) -> np.ndarray:
    """`add` with the second term negated after scaling."""
    return add(p, -1)


def mul(p: Problem, engine: str) -> np.ndarray:
    """The product of the centred codes, requantized once; the multiplier is made in f32 in LiteRT, in f64 in TFLite-Micro."""
    (_, sa, _), (_, sb, _) = p.inputs
    product = centred(p.inputs[0]) * centred(p.inputs[1])
    real = f64(sa) * f64(sb) / f64(p.output[0]) if engine == "tflm" else f64(f32(sa) * f32(sb) / f32(p.output[0]))
    scaled = g.multiply(product, *g.quantize_multiplier(real))
    return p.clamp(scaled + p.output[1])


def requantize(p: Problem) -> np.ndarray:
    """QUANTIZE from codes to codes."""
    codes, scale, _ = p.inputs[0]
    scaled = g.multiply(centred(p.inputs[0]), *g.quantize_multiplier(f64(scale) / f64(p.output[0])))
    return p.clamp(scaled + p.output[1])


def relu(p: Problem, engine: str) -> np.ndarray:
    """`requantize`, then not below the zero point; the multiplier is made in f32 in LiteRT, in f64 in TFLite-Micro."""
    _, scale, _ = p.inputs[0]
    so, zo = p.output
    ratio = f64(scale) / f64(so) if engine == "tflm" else f64(f32(scale) / f32(so))
    return np.maximum(p.clamp(g.multiply(centred(p.inputs[0]), *g.quantize_multiplier(ratio)) + zo), p.clamp(zo))


def relu6(p: Problem, engine: str) -> np.ndarray:
    """LiteRT: `relu`, and not above the code of 6. TFLite-Micro clamps codes by the input's parameters, whatever the output's."""
    so, zo = p.inputs[0][1:] if engine == "tflm" else p.output
    six = p.clamp(zo + int(round_half_away(f32(6) / f32(so))))
    if engine == "tflm":
        return np.clip(p.inputs[0][0], p.clamp(zo), six)
    return np.minimum(relu(p, engine), six)


def leaky_relu(p: Problem, engine: str) -> np.ndarray:
    """One multiplier for each sign; made in f32 in LiteRT, in f64 in TFLite-Micro."""
    _, scale, _ = p.inputs[0]
    so, alpha = p.output[0], f32(p.attributes["alpha"])
    if engine == "tflm":
        identity, slope = f64(scale) / f64(so), f64(scale) * f64(alpha) / f64(so)
    else:
        identity, slope = f64(f32(scale) / f32(so)), f64(f32(f32(scale) * alpha) / f32(so))
    v = centred(p.inputs[0])
    above, below = g.multiply(v, *g.quantize_multiplier(identity)), g.multiply(v, *g.quantize_multiplier(slope))
    return p.clamp(np.where(v >= 0, above, below) + p.output[1])


def windows(x, p: Problem, fill):
    """`[N, H, W, C]` to `[N, H_out, W_out, C, k_h, k_w]`, padded with `fill` as TFLite places SAME."""
    kernel, stride = p.attributes["kernel"], p.attributes["stride"]
    pads = [(0, 0), (0, 0), (0, 0), (0, 0)]
    if p.attributes["padding"] == "same":
        for i in range(2):
            size = x.shape[1 + i]
            total = max((-(-size // stride[i]) - 1) * stride[i] + kernel[i] - size, 0)
            pads[1 + i] = (total // 2, total - total // 2)
    view = np.lib.stride_tricks.sliding_window_view(np.pad(x, pads, constant_values=fill), kernel, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1]]


def avg_pool(p: Problem) -> np.ndarray:
    """Sum of raw codes over the number of codes under the window, half away from zero; the zero point is not removed."""
    codes = p.inputs[0][0]
    total = windows(codes.astype(np.int64), p, 0).sum(axis=(4, 5))
    count = windows(np.ones(codes.shape, np.int64), p, 0).sum(axis=(4, 5))
    up, down = total + count // 2, total - count // 2
    return p.clamp(np.where(total > 0, up // count, -(-down // count)))


def max_pool(p: Problem) -> np.ndarray:
    """Largest code."""
    return windows(p.inputs[0][0], p, p.limits[0]).max(axis=(4, 5))


def mean(p: Problem) -> np.ndarray:
    """Sum of centred codes times the multiplier of `s_in / s_out` with the division by the count folded in."""
    codes, scale, _ = p.inputs[0]
    axes = tuple(p.attributes["axes"])
    count = int(np.prod([codes.shape[axis] for axis in axes]))
    multiplier, shift = g.quantize_multiplier(f64(scale) / f64(p.output[0]))
    fold = min(count.bit_length() - 1, 32, 31 + shift)
    multiplier, shift = (multiplier << fold) // count, shift - fold
    total = centred(p.inputs[0]).sum(axis=axes, keepdims=p.attributes["keep_dims"])
    scaled = g.multiply(total, multiplier, shift)
    return p.clamp(scaled + p.output[1])


def unary_q4(p: Problem):
    """`(x in Q4.27, codes below the radius, codes above it)` of TFLite-Micro's logistic and tanh."""
    real = f64(p.inputs[0][1]) * (1 << 27)
    fraction, shift = math.frexp(real)
    multiplier = int(round_half_away(fraction * (1 << 31)))
    radius = math.floor(15 * (1 << 27) / 2.0**shift)
    v = centred(p.inputs[0])
    inside = np.clip(v, 1 - radius, radius - 1)
    return g.multiply(inside, multiplier, shift), v <= -radius, v >= radius


def power_of_two_exponent(scale):
    """`e` where TFLite takes the scale for `2^e`, that is within a thousandth of its logarithm; else `None`."""
    logarithm = math.log2(f64(scale))
    return round(logarithm) if abs(logarithm - round(logarithm)) < 1e-3 else None


def sixteen_bit_input(p: Problem, shifts: tuple) -> np.ndarray:
    """Codes in steps of 1 / (3 * 4096), as the table of the logistic wants them."""
    scale = f64(p.inputs[0][1])
    exponent = power_of_two_exponent(scale)
    x = p.inputs[0][0].astype(np.int64)
    if exponent is not None and 12 + exponent in shifts:
        return x * (3 << (12 + exponent))
    multiplier, shift = scale * 4096.0 * 3.0, 0
    while multiplier <= 32767.0 / 2.0 and shift <= 30:
        multiplier, shift = multiplier * 2.0, shift + 1
    return (x * int(multiplier) + ((1 << shift) >> 1)) >> shift


def sigmoid(p: Problem, engine: str) -> np.ndarray:
    """int8: the f32 function in a table (LiteRT) or gemmlowp's in Q4 (TFLite-Micro). int16: interpolation in a table."""
    if p.dtype == "int16":
        x = sixteen_bit_input(p, (0,))
        high, low = np.abs(x) >> 9, np.abs(x) & 0x1FF
        a, b = SIGMOID_TABLE[np.minimum(high, 255)], SIGMOID_TABLE[np.minimum(high + 1, 255)]
        result = np.where(high >= 255, 0x7FFF << 10, (a << 9) + low * (b - a))
        return (np.where(x >= 0, result + (1 << 9), (1 << 25) - result + (1 << 9) - 1) >> 10).astype(np.int16)
    if engine == "tflm":
        x, below, above = unary_q4(p)
        y = g.rounding_divide_by_pot(g.logistic(x, 4), 23) - 128
        return p.clamp(np.where(below, -128, np.where(above, 127, y)))
    return table_int8(p, lambda x: f32(1) / (f32(1) + exact(np.exp, -x)))


def tanh(p: Problem, engine: str) -> np.ndarray:
    """As `sigmoid`."""
    if p.dtype == "int16":
        x = sixteen_bit_input(p, (0, 1))
        high, low = np.abs(x) >> 8, np.abs(x) & 0xFF
        a, b = SIGMOID_TABLE[np.minimum(high, 255)], SIGMOID_TABLE[np.minimum(high + 1, 255)]
        result = np.where(high >= 255, 0xFFFF << 8, (a << 8) + low * (b - a))
        half = 1 << 23
        return (np.where(x >= 0, result - half + (1 << 7), -result + half + (1 << 7) - 1) >> 8).astype(np.int16)
    if engine == "tflm":
        x, below, above = unary_q4(p)
        y = g.rounding_divide_by_pot(g.tanh(x, 4), 24)
        return p.clamp(np.where(below, -128, np.where(above, 127, y)))
    return table_int8(p, lambda x: exact(np.tanh, x))


def table_int8(p: Problem, function) -> np.ndarray:
    """A function of f32 in a table of 256: `round_half_away(f(s_in * (q - z)) * (1 / s_out)) + z_out`."""
    codes, scale, zero_point = p.inputs[0]
    q = np.arange(-128, 128)
    real = f32(scale) * (q - zero_point).astype(f32)
    rescaled = round_half_away(function(real) * (f32(1) / f32(p.output[0])))
    return p.clamp(rescaled.astype(np.float64) + p.output[1])[codes.astype(np.int64) + 128]


def exact(function, x) -> np.ndarray:
    """A function of f32 numbers in f64, rounded to f32: what a good f32 library gives."""
    return function(np.asarray(x, np.float64)).astype(f32)


erfc = np.vectorize(math.erfc, otypes=[np.float64])


def gelu_real(x, approximate: bool) -> np.ndarray:
    """gelu of f32 numbers, each step in f32."""
    if approximate:
        root = f32(math.sqrt(2 / math.pi))
        return f32(0.5) * x * (f32(1) + exact(np.tanh, root * (x + f32(0.044715) * x * x * x)))
    return f32(0.5) * x * exact(erfc, x * f32(-math.sqrt(0.5)))


def gelu(p: Problem) -> np.ndarray:
    """int8: the f32 function in a table of 256. int16: 513 values with interpolation."""
    function = lambda x: gelu_real(x, p.attributes["approximate"])
    if p.dtype == "int16":
        table = table_int16(f32(p.inputs[0][1]), 0, f32(p.output[0]), 0, function, f32)
        return lookup_int16(p.inputs[0][0], table)
    return table_int8(p, function)


def table_int16(s_in, z_in: int, s_out, z_out: int, function, real) -> np.ndarray:
    """513 samples over all int16 codes; each but the last is moved by half of the error that interpolation makes half way."""
    low, high = real(s_in) * real(-32768 - z_in), real(s_in) * real(32767 - z_in)
    out_low, out_high = real(s_out) * real(-32768 - z_out), real(s_out) * real(32767 - z_out)
    step = (high - low) / real(512)
    half_step = step / real(2)
    inverse = real(65536) / (out_high - out_low)
    i = np.arange(512).astype(real)
    at = lambda x: np.asarray(function(x)).astype(real)
    value, middle, following = at(low + i * step), at(low + i * step + half_step), at(low + (i + real(1)) * step)
    sample = round_half_away(value * inverse)
    interpolated = round_half_away((following * inverse + round_half_away(value * inverse)) / real(2))
    bias = round_half_away((interpolated - round_half_away(middle * inverse)) / real(2))
    last = round_half_away(at(np.asarray([high])) * inverse)
    return np.clip(np.concatenate([sample - bias, last]), -32768, 32767).astype(np.int64)


def lookup_int16(codes, table) -> np.ndarray:
    """Linear interpolation between the 513 samples."""
    codes = np.asarray(codes, np.int64)
    index, offset = 256 + (codes >> 7), codes & 0x7F
    slope = (table[index + 1] - table[index]).astype(np.int16).astype(np.int64)
    return (table[index] + ((slope * offset + 64) >> 7)).astype(np.int16)


def hard_swish(p: Problem) -> np.ndarray:
    """int16 fixed point on codes shifted left by 7; all TFLite engines, XNNPACK's default session included."""
    _, scale, _ = p.inputs[0]
    fine = f32(f32(1 / 128) * f32(scale))
    output, output_shift = g.quantize_multiplier(f64(fine / f32(p.output[0])))
    relu_m, relu_shift = g.quantize_multiplier(f64(fine / f32(f32(3) / f32(32768))))
    reduce = lambda m: 32767 if m >= g.INT32_MAX - (1 << 15) else (m + (1 << 15)) >> 16
    saturate = lambda x: np.clip(x, -32768, 32767)
    # ties away from zero
    high_mul = lambda a, b: saturate(np.where(a * b >= 0, (a * b + (1 << 14)) >> 15, -((-(a * b + 1 - (1 << 14))) >> 15)))
    x = centred(p.inputs[0]) << 7
    x = ((x + 32768) & 0xFFFF) - 32768
    on_output = high_mul(x, reduce(output))
    relu_v = x
    if relu_shift > 0:
        relu_v = saturate(relu_v << (relu_shift - 1))
    relu_v = high_mul(relu_v, reduce(relu_m))
    if relu_shift > 0:
        relu_v = saturate(relu_v << 1)
    elif relu_shift < 0:
        relu_v = g.rounding_divide_by_pot(relu_v, -relu_shift)
    relu_v = (relu_v + (1 << 15)) >> 1
    product = relu_v * on_output
    truncated = np.where(product >= 0, product >> 15, -((-product) >> 15))
    return p.clamp(g.rounding_divide_by_pot(truncated, -output_shift) + p.output[1])


def softmax(p: Problem, engine: str) -> np.ndarray:
    """Over the last axis: gemmlowp's exp on differences from the largest code in Q5.26, sum in Q12.19."""
    codes, scale, _ = p.inputs[0]
    if p.dtype == "int16":
        return softmax_int16(p, np.float64 if engine == "litert-ref" else f32)
    real = min(f64(scale) * (1 << 26), (1 << 31) - 1.0)
    multiplier, shift = g.quantize_multiplier(real)
    diff_min = -math.floor(31 * (1 << 26) / 2.0**shift)
    x = codes.astype(np.int64)
    difference = x - x.max(axis=-1, keepdims=True)
    inside = difference >= diff_min
    scaled = g.multiply(np.where(inside, difference, 0), multiplier, shift)
    exponentials = g.exp_on_negative_values(scaled, 5)
    total = np.where(inside, g.rounding_divide_by_pot(exponentials, 12), 0).sum(axis=-1)
    y = np.empty(codes.shape, np.int64)
    for index in np.ndindex(total.shape):
        factor, over = g.reciprocal(int(total[index]), 12)
        unsaturated = g.rounding_divide_by_pot(g.srdhm(factor, exponentials[index]), over + 31 - 8)
        y[index] = np.where(inside[index], unsaturated - 128, -128)
    return p.clamp(y)


def softmax_int16(p: Problem, real) -> np.ndarray:
    """exp and 1 / (1 + x) from tables of 513 with interpolation, made in f64 in LiteRT and in f32 in TFLite-Micro."""
    codes, scale, _ = p.inputs[0]
    step = lambda span: real(span) / real(65535)
    exponential = lambda x: np.exp(x.astype(np.float64)).astype(real)
    exp_table = table_int16(step(10), 32767, step(2), 0, exponential, real)
    inverse_table = table_int16(step(1), -32768, step(2), 0, lambda x: real(1) / (real(1) + x), real)
    multiplier, shift = g.quantize_multiplier(f64(scale) / (10.0 / 65535.0))
    x = codes.astype(np.int64)
    difference = x - x.max(axis=-1, keepdims=True)
    scaled = g.multiply(difference, multiplier, shift)
    exponentials = lookup_int16(np.clip(scaled + 32767, -32768, 32767), exp_table).astype(np.int64)
    total = exponentials.sum(axis=-1, keepdims=True)
    headroom = 32 - np.vectorize(lambda v: int(v).bit_length(), otypes=[np.int64])(total)
    shifted = ((total << (headroom - 1)) + (1 << 13)) >> 14
    position = np.clip(shifted - (1 << 15) - (1 << 16), -32768, 32767)
    factor = lookup_int16(position, inverse_table).astype(np.int64)
    right = 31 - headroom
    result = (exponentials * factor + (np.int64(1) << (right - 1))) >> right
    return np.clip(result, 0, 32767).astype(np.int16)


BY_ENGINE = {f.__name__: f for f in (mul, relu, relu6, leaky_relu, sigmoid, tanh, softmax)}
COMMON = {
    f.__name__: f
    for f in (add, sub, requantize, avg_pool, max_pool, mean, gelu, hard_swish)
}


def expect(p: Problem, engine: str) -> np.ndarray:
    """Output codes of `"litert-ref"` or `"tflm"`."""
    return BY_ENGINE[p.op](p, engine) if p.op in BY_ENGINE else COMMON[p.op](p)
