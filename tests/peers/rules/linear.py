"""Fully connected, 8-bit: one row and many, few terms and so many that sums pass 2^24, with and without bias."""

import numpy as np

from .weighted import draw

SUMMARY = "fully connected, int8 activations, int8 weights"

# So many terms that sums of one sign are beyond the integers that f32 has.
LONG = 4000


def problems(rng, kind: str, batch: int, small: bool, **options):
    sizes = ((1, 33, 10), (3, 8, 6)) if small else ((1, 400, 120), (32 * batch, 120, 84), (32, LONG, 24))
    for rows, d_in, d_out in sizes:
        for per_channel in (True, False):
            for bias in (True, False):
                relu = bias and bool(rng.integers(0, 2))
                label = f"{rows}x{d_in}x{d_out}-{'channel' if per_channel else 'tensor'}-{kind}" + ("" if bias else "-no-bias")
                shapes = (rows, d_in), (d_out, d_in)
                p = draw(rng, kind, label, "linear", {}, *shapes, per_channel=per_channel, relu=relu, bias=bias, **options)
                if d_in == LONG:
                    # Products of one sign: their sum grows with the number of terms and not with its root, about 64 times.
                    p.weight, p.x = np.abs(p.weight), np.maximum(p.x, p.x.dtype.type(p.x_zero))
                    p.y_scale = np.float32(p.y_scale * np.float32(64))
                yield p


def rule(engine: str, p) -> str | None:
    if engine == "onnxruntime-qop":
        # QLinearMatMul has no bias; a linear layer with one is a pointwise QLinearConv there.
        return "fp32-rne" if p.bias is None else None
    return {"onnxruntime": "fp32-rne", "litert": "fp32-rne", "litert-ref": "f64-half-away", "tflm": "gemmlowp"}[engine]
