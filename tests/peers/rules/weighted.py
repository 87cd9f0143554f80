"""A problem of the multiply-accumulate family, its exact sum, and how its numbers are drawn.

Codes are int8 (or int16) whatever the graph's type is; layouts are those of crates/runtime: images NCHW, weights
[c_out, c_in / groups, k_h, k_w], transposed convolution [c_in, c_out / groups, k_h, k_w], linear [d_out, d_in], matmul [.., k, n].
"""

from dataclasses import dataclass, field

import numpy as np

f32 = np.float32

# `near-ties` has decimal steps: ratios such as 0.3 / 0.2 put real values on ties that f32 misses by one rounding or another.
KINDS = ("ties", "near-ties", "random", "saturating")


@dataclass
class Weighted:
    """One operator with its constants and operands; `attributes` are lists of integers."""

    name: str
    op: str  # conv1d (images of height 1), conv2d, transpose_conv2d, linear, matmul
    x: np.ndarray
    x_scale: np.float32
    x_zero: int
    weight: np.ndarray  # int8; the second operand of a matmul
    weight_scale: np.ndarray  # f32 [c_out], or [1] per tensor
    bias: np.ndarray | None  # int32, or int64 under int16 activations
    y_scale: np.float32
    y_zero: int
    attributes: dict = field(default_factory=dict)
    weight_zero: int = 0  # of the second operand of a matmul
    bits: int = 8  # of a weight
    relu: bool = False

    @property
    def wide(self) -> bool:
        """Whether activations are int16."""
        return self.x.dtype == np.int16

    @property
    def limits(self) -> tuple:
        """Lowest and highest output code."""
        low, high = (-32768, 32767) if self.wide else (-128, 127)
        return (max(low, self.y_zero) if self.relu else low), high

    def channels(self, values) -> np.ndarray:
        """A [c_out] or [1] array, shaped to broadcast against the output."""
        values = np.asarray(values)
        return values if self.op in ("linear", "matmul") else values.reshape(-1, 1, 1)


def windows(x: np.ndarray, attributes: dict) -> np.ndarray:
    """[N, C, H, W] to [N, C, H_out, W_out, k_h, k_w], padded with 0."""
    (kh, kw), (sh, sw) = attributes["kernel"], attributes["stride"]
    dh, dw = attributes.get("dilation", [1, 1])
    top, left, bottom, right = attributes["padding"]
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    spans = ((kh - 1) * dh + 1, (kw - 1) * dw + 1)
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(2, 3))
    return view[:, :, ::sh, ::sw, ::dh, ::dw]


def conv2d_sum(x: np.ndarray, weight: np.ndarray, attributes: dict) -> np.ndarray:
    groups = attributes["groups"][0]
    x = windows(x, attributes)
    n, c, h, w = x.shape[:4]
    x = x.reshape(n, groups, c // groups, h, w, -1)
    weight = weight.reshape(groups, -1, c // groups, x.shape[-1])
    return np.einsum("ngchwk,gock->ngohw", x, weight, optimize=True).reshape(n, -1, h, w)


def transpose_conv2d_sum(x: np.ndarray, weight: np.ndarray, attributes: dict, spread) -> np.ndarray:
    """Every input pixel adds its kernel; then `padding` is cut off and `output_padding` kept beyond it.

    `spread(pixels [N, c, h, w], columns [c, c_out])` gives what one kernel tap adds, `[N, c_out, h, w]`.
    """
    (kh, kw), (sh, sw), (dh, dw) = attributes["kernel"], attributes["stride"], attributes["dilation"]
    top, left, bottom, right = attributes["padding"]
    extra, groups = attributes["output_padding"], attributes["groups"][0]
    n, c, h, w = x.shape
    size = (h - 1) * sh + (kh - 1) * dh + 1 + extra[0], (w - 1) * sw + (kw - 1) * dw + 1 + extra[1]
    full = np.zeros((n, groups, weight.shape[1], *size), x.dtype)
    x, weight = x.reshape(n, groups, c // groups, h, w), weight.reshape(groups, c // groups, -1, kh, kw)
    for group in range(groups):
        for i in range(kh):
            for j in range(kw):
                y, z = i * dh, j * dw
                target = full[:, group, :, y : y + (h - 1) * sh + 1 : sh, z : z + (w - 1) * sw + 1 : sw]
                target += spread(x[:, group], weight[group, :, :, i, j])
    full = full.reshape(n, -1, *size)
    return full[:, :, top : size[0] - bottom, left : size[1] - right]


def exact_sum(p: Weighted) -> np.ndarray:
    """(Q9)'s acc. Products of 16-bit and 8-bit integers sum to far below 2^53 here, so float64 is exact."""
    x, weight = p.x.astype(np.float64) - p.x_zero, p.weight.astype(np.float64) - p.weight_zero
    if p.op in ("conv1d", "conv2d"):
        acc = conv2d_sum(x, weight, p.attributes)
    elif p.op == "transpose_conv2d":
        acc = transpose_conv2d_sum(x, weight, p.attributes, lambda a, b: np.einsum("nchw,co->nohw", a, b, optimize=True))
    elif p.op == "linear":
        acc = x @ weight.T
    else:
        acc = x @ weight
    acc = acc.astype(np.int64)
    return acc if p.bias is None else acc + p.channels(p.bias.astype(np.int64))


def finish(p: Weighted, scaled: np.ndarray) -> np.ndarray:
    """Adds the zero point and clamps."""
    return np.clip(scaled + p.y_zero, *p.limits).astype(p.x.dtype)


def decimal(scale: float) -> np.float32:
    """The nearest number with one significant decimal digit."""
    return f32(float(f"{scale:.0e}"))


def draw_scale(rng, kind: str, low: float, high: float) -> np.float32:
    """A step in [low, high], log-uniform; a power of two for `ties`, one decimal digit for `near-ties`."""
    scale = np.exp(rng.uniform(np.log(low), np.log(high)))
    if kind == "near-ties":
        return decimal(scale)
    return f32(2.0 ** np.round(np.log2(scale))) if kind == "ties" else f32(scale)


def draw_codes(rng, shape, wide: bool = False) -> np.ndarray:
    """Half uniform, a quarter near zero, a quarter extreme."""
    low, high = (-32768, 32767) if wide else (-128, 127)
    uniform = rng.integers(low, high + 1, shape)
    near = rng.integers(-3, 4, shape)
    extreme = rng.choice([low, low + 1, high - 1, high], shape)
    which = rng.integers(0, 4, shape)
    codes = np.where(which < 2, uniform, np.where(which == 2, near, extreme))
    return codes.astype(np.int16 if wide else np.int8)


def draw_zero(rng, wide: bool = False) -> int:
    return 0 if wide else int(rng.choice([-128, 127, 0, *rng.integers(-128, 128, 5)]))


def draw_weight(rng, shape, bits: int) -> np.ndarray:
    """Every code of the format but the lowest, which symmetric weights leave out."""
    high = (1 << (bits - 1)) - 1
    return rng.integers(-high, high + 1, shape).astype(np.int8)


def draw(rng, kind, name, op, attributes, x_shape, w_shape, *, per_channel=True, bits=8, wide=False, relu=False, bias=True):
    """Weights, bias and an output scale under which the sums span the codes (many times, for `saturating`)."""
    x_zero, x_scale = draw_zero(rng, wide), draw_scale(rng, kind, 1e-5 if wide else 1e-3, 1e-2 if wide else 1.0)
    codes, weight = draw_codes(rng, x_shape, wide), draw_weight(rng, w_shape, bits)
    c_out = w_shape[1] * attributes["groups"][0] if op == "transpose_conv2d" else w_shape[0]
    terms = np.prod(w_shape) / c_out
    if op == "transpose_conv2d":
        terms /= np.prod(attributes["stride"])
    scales = [draw_scale(rng, kind, 1e-3, 1e-2) for _ in range(c_out if per_channel else 1)]
    deviation = 18900 if wide else np.sqrt(73**2 + x_zero**2)
    spread = np.sqrt(terms) * (((1 << bits) - 2) / np.sqrt(12)) * deviation
    b = rng.normal(0, spread / 2, c_out).astype(np.int64 if wide else np.int32) if bias else None
    reach = (600.0 if kind == "saturating" else 60.0) * (256 if wide else 1)
    y_scale = f32(x_scale * np.mean(scales)) * f32(spread / reach)
    if kind == "ties":
        y_scale = f32(2.0 ** np.round(np.log2(y_scale)))
    elif kind == "near-ties":
        y_scale = decimal(y_scale)
    y_zero = (0 if wide else -128) if relu else draw_zero(rng, wide)
    weight_scale = np.array(scales, f32)
    return Weighted(name, op, codes, x_scale, x_zero, weight, weight_scale, b, f32(y_scale), y_zero, attributes, 0, bits, relu)


def draw_matmul(rng, kind, name, a_shape, b_shape, *, wide=False, weight_wide=False):
    """Two activations, each with a zero point of its own."""
    a_zero, b_zero = draw_zero(rng, wide), draw_zero(rng, wide)
    a_scale, b_scale = draw_scale(rng, kind, 1e-3, 0.1), draw_scale(rng, kind, 1e-3, 0.1)
    a, b = draw_codes(rng, a_shape, wide), draw_codes(rng, b_shape, weight_wide)
    deviation = 18900 if wide else np.sqrt(73**2 + a_zero**2)
    other = 18900 if weight_wide else np.sqrt(73**2 + b_zero**2)
    spread = np.sqrt(a_shape[-1]) * deviation * other
    reach = (600.0 if kind == "saturating" else 60.0) * (256 if wide else 1)
    y_scale = f32(a_scale * b_scale) * f32(spread / reach)
    if kind == "ties":
        y_scale = f32(2.0 ** np.round(np.log2(y_scale)))
    elif kind == "near-ties":
        y_scale = decimal(y_scale)
    y_zero = draw_zero(rng, wide)
    return Weighted(name, "matmul", a, a_scale, a_zero, b, np.array([b_scale], f32), None, f32(y_scale), y_zero, {}, b_zero)
