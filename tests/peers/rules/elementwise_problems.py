"""Draws of element-wise operations, pools, means and functions."""

import numpy as np

from problem import Problem, decimal, draw_codes, draw_scale, draw_zero, f32, power_of_two

OPS = ["add", "sub", "mul", "avg_pool", "max_pool", "mean", "relu", "relu6", "requantize", "sigmoid", "tanh", "hard_swish",
       "gelu", "leaky_relu", "softmax"]


def near(scale, kind: str):
    """An output scale in the manner of `kind`."""
    return {"ties": power_of_two, "near-ties": decimal}.get(kind, f32)(scale)


def draw(rng, op: str, kind: str, dtype: str, index: int, size: int = 4096) -> Problem:
    """One problem; `size` codes or so."""
    zero = lambda: draw_zero(rng, dtype)
    codes = lambda shape: draw_codes(rng, shape, dtype)
    wide = 256 if dtype == "int16" else 1
    name = f"{dtype}-{kind}-{index}"
    loss = 0.1 if kind == "saturating" else 1.0
    if op in ("add", "sub", "mul"):
        shape = (1, 8, 8, size // 64)
        low, high = (0.02 / wide, 0.2 / wide)
        shapes = [(shape, shape), ((1, 8, 1, 1), shape), (shape, (1, 1, 8, size // 64)), (shape, (1, 1, 1, size // 64)),
                  ((1, 8, 8, 1), shape)][max(0, index % 8 - 3)]
        inputs = [(codes(each), draw_scale(rng, kind, low, high), zero()) for each in shapes]
        if kind == "ties" and index % 2:
            # Steps of three, five, seven units keep exact ties while the ratios are no longer powers of two.
            inputs = [(c, f32(s * k), z) for (c, s, z), k in zip(inputs, rng.choice([3, 5, 7], 2))]
        scale = draw_scale(rng, kind, 0.1 / wide, 0.4 / wide)
        if op == "mul":
            scale = near(rng.uniform(20, 200) * wide * inputs[0][1] * inputs[1][1], kind)
        if index % 8 == 0 and op != "mul":
            # Steps so far apart that XNNPACK leaves the operation to TFLite's own kernel.
            inputs[1] = (*inputs[1][:1], f32(inputs[1][1] / 4096), *inputs[1][2:])
        return Problem(name, op, inputs, (near(f32(scale * loss), kind), zero()), dtype)
    if op in ("avg_pool", "max_pool"):
        kernel, stride = [([2, 2], [2, 2]), ([3, 3], [1, 1]), ([3, 2], [2, 1]), ([5, 7], [1, 1])][index % 4]
        params = draw_scale(rng, kind, 0.01, 0.1), zero()
        attributes = dict(kernel=kernel, stride=stride, padding=["same", "valid"][index // 4 % 2])
        return Problem(name, op, [(codes((2, 9, 11, max(size // 200, 1))), *params)], params, dtype, attributes=attributes)
    if op == "mean":
        shape = (1 + index % 2, int(rng.integers(2, 9)), int(rng.integers(2, 9)), size // 16)
        axes = [[1, 2], [1], [2], [2, 3], [3]][index % 5]
        scale = draw_scale(rng, kind, 0.01, 0.1)
        out = near(f32(scale * f32(rng.uniform(0.1, 0.9) * loss)), kind)
        if dtype == "int16":
            out = near(f32(scale * f32(rng.uniform(0.3, 1.5))), kind)
        zeros = (0, 0) if dtype == "int16" else (int(rng.integers(-20, 21)), int(rng.integers(-20, 21)))
        attributes = dict(axes=axes, keep_dims=bool(index // 4 % 2))
        return Problem(name, op, [(codes(shape), scale, zeros[0])], (out, zeros[1]), dtype, attributes=attributes)
    if op == "softmax":
        depth = [2, 10, 37, 100][index % 4]
        low, high = (1e-3, 2.0) if dtype == "int8" else (1e-5, 1e-2)
        scale = draw_scale(rng, kind, low, high)
        output = (f32(1 / 256), -128) if dtype == "int8" else (f32(1 / 32768), 0)
        return Problem(name, op, [(codes((max(size // depth, 1), depth)), scale, zero())], output, dtype)
    shape = (4, 64) if dtype == "int8" else (16, size // 16)
    every = np.arange(-128, 128).reshape(shape).astype(np.int8) if dtype == "int8" else codes(shape)
    if op in ("sigmoid", "tanh"):
        scale = draw_scale(rng, kind, 5e-3 / wide, 0.3 / wide)
        if dtype == "int16" and index % 3 == 0:
            scale = f32(2.0 ** -(12 - index // 3 % 3))
        span, z = {"sigmoid": (256, -128), "tanh": (128, 0)}[op]
        output = (f32(1 / span), z) if dtype == "int8" else (f32(1 / 32768), 0)
        return Problem(name, op, [(every, scale, zero())], output, dtype)
    scale = draw_scale(rng, kind, 1e-2 / wide, 0.5 / wide)
    ratio = rng.uniform(0.2, 1.5) if op in ("hard_swish", "gelu") else rng.uniform(0.3, 3.0)
    if op == "requantize" and index % 4 == 3:
        ratio = [1 / 300, 1 / 140, 270, 500][index // 4 % 4]
    output = (near(f32(scale * f32(ratio * loss)), kind), zero())
    attributes, output_dtype = {}, dtype
    if op == "requantize" and index % 4 == 2:
        output_dtype = {"int8": "int16", "int16": "int8"}[dtype]
        output = (near(f32(scale * f32(ratio * loss)) * (1 / 256 if dtype == "int8" else 256), kind), draw_zero(rng, output_dtype))
    inputs = [(every, scale, zero())]
    if op in ("relu", "relu6") and index % 2:
        inputs = [(every, *output)]
    if op == "leaky_relu":
        attributes = dict(alpha=f32([0.01, 0.1, 0.25, 0.3, rng.uniform(0.05, 0.9)][index % 5]))
    if op == "gelu":
        attributes = dict(approximate=bool(index % 2))
    return Problem(name, op, inputs, output, dtype, output_dtype, attributes=attributes)
