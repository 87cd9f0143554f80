"""ONNX Runtime's arithmetic in its default session on x86-64 with AVX2 and FMA, for QDQ graphs with uint8 codes (`"onnx"`).

Fused to integer nodes, for 8-bit codes: add, mul, sigmoid, leaky relu, softmax, concat. Not fused, so computed in f32 between DequantizeLinear and
QuantizeLinear: sub, mean, tanh, hard swish, gelu, and everything of 16-bit codes; relu and relu6 are dropped where the codes imply
them. Codes here are signed;
`u = q + 128` is the uint8 code.
"""

import numpy as np

from float32 import f32, fma
from problem import Problem


def dequantize(operand) -> np.ndarray:
    """DequantizeLinear: `s * (q - z)`."""
    codes, scale, zero_point = operand
    return f32(scale) * (codes.astype(np.int32) - zero_point).astype(f32)


def quantize(real, p: Problem) -> np.ndarray:
    """QuantizeLinear: `clamp(rne(x / s) + z)`."""
    scale, zero_point = p.output
    low, high = p.limits
    steps = np.clip(np.asarray(real, f32) / f32(scale), low - zero_point, high - zero_point)
    return (np.rint(steps).astype(np.int64) + zero_point).astype(p.output_dtype)


def first_is_stretched(a, b) -> bool:
    """Whether the innermost axis in which the shapes are not both 1 is one along which the first operand stretches."""
    return next((m == 1 < n for m, n in zip(a[::-1], b[::-1]) if (m, n) != (1, 1)), False)


def add(p: Problem) -> np.ndarray:
    """`rne(fma(a, s_a/s_o, fma(b, s_b/s_o, fixed)))` on uint8 codes, `fixed = z_o - fma(s_a/s_o, z_a, (s_b/s_o) * z_b)`.

    A first operand that stretches along the innermost axis changes places with the second.
    """
    if p.dtype == "int16":
        return quantize(dequantize(p.inputs[0]) + dequantize(p.inputs[1]), p)
    (a, scale_a, zero_a), (b, scale_b, zero_b) = p.inputs
    if first_is_stretched(a.shape, b.shape):
        (b, scale_b, zero_b), (a, scale_a, zero_a) = p.inputs
    scale, zero_point = p.output
    ratio_a, ratio_b = f32(scale_a) / f32(scale), f32(scale_b) / f32(scale)
    fixed = f32(zero_point + 128) - fma(ratio_a, f32(zero_a + 128), ratio_b * f32(zero_b + 128))
    total = fma(a.astype(f32) + f32(128), ratio_a, fma(b.astype(f32) + f32(128), ratio_b, fixed))
    return p.clamp(np.rint(total) - 128)


def sub(p: Problem) -> np.ndarray:
    """Difference of the real values."""
    return quantize(dequantize(p.inputs[0]) - dequantize(p.inputs[1]), p)


def mul(p: Problem) -> np.ndarray:
    """`rne(f32(v_a * v_b) * ((s_a * s_b) / s_o) + z_o)` on uint8 codes: ties go to the even uint8 code."""
    if p.dtype == "int16":
        return quantize(dequantize(p.inputs[0]) * dequantize(p.inputs[1]), p)
    (a, scale_a, zero_a), (b, scale_b, zero_b) = p.inputs
    ratio = f32(scale_a) * f32(scale_b) / f32(p.output[0])
    product = ((a.astype(np.int32) - zero_a) * (b.astype(np.int32) - zero_b)).astype(f32)
    return p.clamp(np.rint(product * ratio + f32(p.output[1] + 128)).astype(np.float64) - 128)


def requantize(p: Problem) -> np.ndarray:
    """DequantizeLinear, QuantizeLinear."""
    return quantize(dequantize(p.inputs[0]), p)


def relu(p: Problem) -> np.ndarray:
    """`max(x, 0)`."""
    return quantize(np.maximum(dequantize(p.inputs[0]), f32(0)), p)


def relu6(p: Problem) -> np.ndarray:
    """`min(max(x, 0), 6)`."""
    return quantize(np.clip(dequantize(p.inputs[0]), f32(0), f32(6)), p)


def leaky_relu(p: Problem) -> np.ndarray:
    """`x` or `alpha * x`."""
    x = dequantize(p.inputs[0])
    return quantize(np.where(x >= 0, x, f32(p.attributes["alpha"]) * x), p)


def horner(x, coefficients) -> np.ndarray:
    """A polynomial from its highest coefficient on, with fused multiply-adds."""
    value = np.full(np.shape(x), f32(coefficients[0]))
    for coefficient in coefficients[1:]:
        value = fma(value, x, np.full(np.shape(x), f32(coefficient)))
    return value


def logistic(x) -> np.ndarray:
    """A quotient of polynomials on [-18, 18], plus 1/2."""
    x = np.clip(np.asarray(x, f32), f32(-18), f32(18))
    square = x * x
    p = horner(square, [4.37031012579801e-11, 1.15627324459942e-07, 6.08574864600143e-05, 8.51377133304701e-03,
                        2.48287947061529e-01]) * x
    q = horner(square, [6.10247389755681e-13, 5.76102136993427e-09, 6.29106785017040e-06, 1.70198817374094e-03,
                        1.16817656904453e-01, 9.93151921023180e-01])
    return np.clip(p / q + f32(0.5), f32(0), f32(1))


def tanh_real(x) -> np.ndarray:
    """A quotient of polynomials on [-9, 9]."""
    x = np.clip(np.asarray(x, f32), f32(-9), f32(9))
    square = x * x
    p = horner(square, [-2.76076847742355e-16, 2.00018790482477e-13, -8.60467152213735e-11, 5.12229709037114e-08,
                        1.48572235717979e-05, 6.37261928875436e-04, 4.89352455891786e-03]) * x
    q = horner(square, [1.19825839466702e-06, 1.18534705686654e-04, 2.26843463243900e-03, 4.89352518554385e-03])
    return p / q


def sigmoid(p: Problem) -> np.ndarray:
    """`logistic` in a table of 256."""
    return quantize(logistic(dequantize(p.inputs[0])), p)


def tanh(p: Problem) -> np.ndarray:
    """`tanh_real` in f32."""
    return quantize(tanh_real(dequantize(p.inputs[0])), p)


def hard_swish(p: Problem) -> np.ndarray:
    """`x * clip(x * f32(1/6) + 1/2, 0, 1)`."""
    x = dequantize(p.inputs[0])
    return quantize(x * np.clip(x * f32(1 / 6) + f32(0.5), f32(0), f32(1)), p)


def erf_real(x) -> np.ndarray:
    """erf by two polynomials, split at 0.921875."""
    x = np.asarray(x, f32)
    small_x = np.abs(x)
    square = small_x * small_x
    small = fma(horner(square, [-5.99104969e-4, 4.99339588e-3, -2.67667342e-2, 1.12818025e-1, -3.76124859e-1, 1.28379151e-1]),
                small_x, small_x)
    big_x = np.minimum(small_x, f32(3.925))
    big = horner(big_x, [1.72948930e-5, -3.83208680e-4, 3.88393435e-3, -2.42545605e-2, 1.06777847e-1, 6.34846687e-1,
                         1.28717512e-1])
    big = -fma(big, big_x, big_x)
    magic = np.full(np.shape(x), f32(1.25829120e7))
    r = fma(np.full(np.shape(x), f32(1.44269504088896341)), big, magic) - magic
    f = fma(r, f32(-6.93145752e-1), big)
    f = fma(r, f32(-1.42860677e-6), f)
    y = horner(f, [1.38319808e-3, 8.37550033e-3, 4.16689515e-2, 1.66664466e-1, 4.99999851e-1, 1.0, 1.0])
    y = f32(1) - np.ldexp(y, r.astype(np.int32)).astype(f32)
    return np.copysign(np.where(small_x > f32(0.921875), y, small), x)


def gelu(p: Problem) -> np.ndarray:
    """`(0.5 * x) * (erf(x * f32(sqrt(1/2))) + 1)`, or with tanh of `x * ((C * x) * x + B)`."""
    x = dequantize(p.inputs[0])
    if p.attributes["approximate"]:
        inner = x * (f32(0.035677408136300125) * x * x + f32(0.7978845608028654))
        return quantize(f32(0.5) * x * (tanh_real(inner) + f32(1)), p)
    return quantize(f32(0.5) * x * (erf_real(x * f32(0.70710678118654752)) + f32(1)), p)


def softmax(p: Problem) -> np.ndarray:
    """exp from an f32 table aligned with the largest code, f32 sum in order, `rne((e * floor(1 / s_y)) / sum) + z`."""
    codes, scale, _ = p.inputs[0]
    depth = codes.shape[-1]
    head = max(0.0, float(np.log(np.float64(np.finfo(f32).max / f32(depth)))) - 5) / float(f32(scale))
    table = np.exp((np.arange(256, dtype=np.float64) - 255 + head) * float(f32(scale))).astype(f32)
    x = codes.astype(np.int64)
    terms = table[255 + x - x.max(axis=-1, keepdims=True)]
    total = np.zeros(terms.shape[:-1], f32)
    for i in range(depth):
        total = total + terms[..., i]
    span = np.floor(f32(1) / f32(p.output[0]))
    y = np.rint(terms * span / total[..., None]).astype(np.int64) + p.output[1] + 128
    return (np.minimum(y, 255) - 128).astype(np.int8)


def fold(shape, axes) -> list:
    """`[(reduced, size)]`: neighbouring axes of one kind merged, axes of size 1 left out."""
    runs = []
    for axis, size in enumerate(shape):
        if size == 1:
            continue
        if runs and runs[-1][0] == (axis in axes):
            runs[-1] = (runs[-1][0], runs[-1][1] * size)
        else:
            runs.append((axis in axes, size))
    return runs


def sum_of_row(row, position: int):
    """Contiguous f32 that begin `position` floats into an aligned buffer: packets of four from the first aligned one on."""
    start = min(-position % 4, row.size)
    packets = (row.size - start) // 4
    if packets == 0:
        edges, total = row[1:], row[0]
    else:
        body = row[start : start + 4 * packets].reshape(packets, 4)
        lanes = body[0]
        if packets > 1:
            odd = body[1]
            for i in range(2, packets - 1, 2):
                lanes, odd = lanes + body[i], odd + body[i + 1]
            lanes = lanes + odd
            if packets % 2:
                lanes = lanes + body[-1]
        total = (lanes[0] + lanes[2]) + (lanes[1] + lanes[3])
        edges = [*row[:start], *row[start + 4 * packets :]]
    for x in edges:
        total = total + x
    return total


def sum_over_middle(x) -> np.ndarray:
    """`[K, R, K]` over R: as a matrix product with ones, four rows at a time, then two, then one."""
    total, i = None, 0
    for group in (4, 2, 1):
        while i + group <= x.shape[1]:
            part = x[:, i]
            for row in range(i + 1, i + group):
                part = part + x[:, row]
            total, i = part if total is None else total + part, i + group
    return total


def mean(p: Problem) -> np.ndarray:
    """f32 sum of the real values over their number; the order of the sum follows from where the axes are."""
    x = dequantize(p.inputs[0])
    axes = tuple(p.attributes["axes"])
    count = int(np.prod([x.shape[axis] for axis in axes]))
    runs = fold(x.shape, axes)
    flat = x.reshape([size for _, size in runs] or [1])
    kinds = [reduced for reduced, _ in runs]
    if kinds == [True]:
        total = np.asarray(sum_of_row(flat, 0))
    elif kinds == [True, False]:
        total = flat[0]
        for row in flat[1:]:
            total = total + row
    elif kinds == [False, True]:
        total = np.array([sum_of_row(row, i * row.size) for i, row in enumerate(flat)], f32)
    elif kinds == [False, True, False]:
        total = sum_over_middle(flat)
    else:
        raise ValueError(f"{p.name}: expected one run of reduced axes, found {kinds}")
    shape = [1 if axis in axes else size for axis, size in enumerate(x.shape)]
    if not p.attributes["keep_dims"]:
        shape = [size for axis, size in enumerate(x.shape) if axis not in axes]
    return quantize(total / f32(count), p).reshape(shape)


OWN = {
    f.__name__: f
    for f in (add, sub, mul, mean, relu, relu6, requantize, sigmoid, tanh, hard_swish, gelu, leaky_relu, softmax)
}


def expect(p: Problem) -> np.ndarray:
    """Output codes of `"onnx"`."""
    return OWN[p.op](p)
