"""ONNX Runtime's float execution of a QDQ graph that it does not fuse, as f32 sums in the order of its CPU kernels.

(Q50) to (Q52) of docs/quantization.md, for one thread. Not known: the order of a linear layer of one row, and of products with
one column (a convolution whose output is one pixel).
"""

import numpy as np

from .weighted import Weighted, transpose_conv2d_sum, windows

f32 = np.float32

# Terms that a transposed convolution sums before the next partial sum begins.
BLOCK = 128


def block(columns: int) -> int:
    """(Q51): terms that a product of `columns` columns sums before the next partial sum begins."""
    return 128 if columns > 64 else 256 if columns > 32 else 512 if columns > 16 else 1024


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


def reals(p: Weighted) -> tuple:
    """What DequantizeLinear makes of operand, weight and bias."""
    x = f32(p.x_scale) * (p.x.astype(f32) - f32(p.x_zero))
    scale = p.weight_scale
    if p.op == "transpose_conv2d" and len(scale) > 1:
        # Groups of input channels belong to groups of output channels.
        groups = p.attributes["groups"][0]
        scale = scale.reshape(groups, 1, -1, 1, 1).repeat(p.weight.shape[0] // groups, axis=1).reshape(*p.weight.shape[:2], 1, 1)
    else:
        scale = scale.reshape(-1, *(1,) * (p.weight.ndim - 1))
    bias = (f32(p.x_scale) * p.weight_scale).astype(f32) * p.bias.astype(f32)
    return x, (scale * p.weight.astype(f32)).astype(f32), bias.astype(f32)


def product(x: np.ndarray, weight: np.ndarray, terms: int, bias=None) -> np.ndarray:
    """(Q50): x [..., k] times weight [k, n]: fused multiply-adds in order of k, in partial sums of `terms` terms.

    A bias is added to the first partial sum.
    """
    total = None
    for first in range(0, x.shape[-1], terms):
        part = np.zeros((*x.shape[:-1], weight.shape[1]), f32)
        for k in range(first, min(first + terms, x.shape[-1])):
            part = fma(x[..., k, None], weight[k], part)
        total = part if total is None else total + part
        if first == 0 and bias is not None:
            total = total + bias
    return total


def product_by_four(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """(Q52): x [..., k] times weight [k, 1], each product rounded, added in fours, at the end in a pair and alone."""
    products = (x * weight[:, 0]).astype(f32)
    total, k = np.zeros(x.shape[:-1], f32), 0
    while k < x.shape[-1]:
        left = x.shape[-1] - k
        size = 4 if left >= 4 else 2 if left >= 2 else 1
        part = products[..., k]
        for term in range(k + 1, k + size):
            part = part + products[..., term]
        total, k = part + total, k + size
    return total[..., None]


def conv2d(p: Weighted) -> np.ndarray:
    x, weight, bias = reals(p)
    groups = p.attributes["groups"][0]
    view = windows(x, p.attributes)
    n, c, h, w = view.shape[:4]
    view = view.reshape(n, groups, c // groups, h, w, -1).transpose(1, 0, 3, 4, 2, 5).reshape(groups, n, h, w, -1)
    weight = weight.reshape(groups, weight.shape[0] // groups, -1)
    if weight.shape[1] == 1:
        parts = [product_by_four(rows, columns.T) for rows, columns in zip(view, weight)]
    else:
        parts = [product(rows, columns.T, block(h * w)) for rows, columns in zip(view, weight)]
    return (np.concatenate(parts, axis=-1) + bias).transpose(0, 3, 1, 2)


def transpose_conv2d(p: Weighted) -> np.ndarray:
    """(Q51): one product for each kernel tap."""
    x, weight, bias = reals(p)

    def spread(pixels, columns):
        return product(pixels.transpose(0, 2, 3, 1), columns, BLOCK).transpose(0, 3, 1, 2)

    return transpose_conv2d_sum(x, weight, p.attributes, spread) + bias.reshape(-1, 1, 1)


def linear(p: Weighted) -> np.ndarray:
    x, weight, bias = reals(p)
    return product(x, weight.T, block(weight.shape[0]), bias)


def matmul(p: Weighted) -> np.ndarray:
    a = f32(p.x_scale) * (p.x.astype(f32) - f32(p.x_zero))
    b = f32(p.weight_scale[0]) * (p.weight.astype(f32) - f32(p.weight_zero))
    if a.shape[1] == 1:
        columns = [[product_by_four(rows, column[:, None]) for column in matrix.T] for rows, matrix in zip(a, b)]
        return np.stack([np.concatenate(matrix, axis=-1) for matrix in columns])
    return np.stack([product(*pair, block(b.shape[-1])) for pair in zip(a, b)])


def codes(p: Weighted) -> np.ndarray:
    """(Q5) of the sum, the zero point added after rounding, clamped."""
    real = SUMS[p.op](p)
    real = np.maximum(real, f32(0)) if p.relu else real
    low, high = (-32768, 32767) if p.wide else (-128, 127)
    return np.clip(np.rint(real / f32(p.y_scale)).astype(np.float64) + p.y_zero, low, high).astype(p.x.dtype)


SUMS = {"conv1d": conv2d, "conv2d": conv2d, "transpose_conv2d": transpose_conv2d, "linear": linear, "matmul": matmul}
