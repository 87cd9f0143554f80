#!/usr/bin/env python3
"""The arithmetic of ONNX Runtime's fused integer kernels, stated as formulas and compared bit for bit.

Each problem is one operator in a QDQ graph: uint8 activations, int8 weights per output channel, int32 bias, default session
options. Codes below are int8; the graph's uint8 code is the int8 code + 128. The formulas stand in the functions `expect_*`; they
use numpy only and no code of this workspace, so they are a second, independent statement of what `crates/runtime` computes.

    python tests/peers/op_parity.py check --outputs 1000000 --seed 1     compare; exit status 1 on any difference
    python tests/peers/op_parity.py goldens --seed 20261123              write crates/runtime/tests/goldens/*.txt

Equality is claimed for x86-64 with AVX-512 VNNI (or AVX-VNNI), where u8 x s8 products are accumulated without 16-bit saturation.
"""

import argparse
import os
import pathlib
import sys
import tempfile
from dataclasses import dataclass, field

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

f32 = np.float32
GOLDENS = pathlib.Path(__file__).resolve().parents[2] / "crates" / "runtime" / "tests" / "goldens"


@dataclass
class Problem:
    """One operator with its constants, parameters and operands; `attributes` are lists of integers."""

    name: str
    op: str
    attributes: dict = field(default_factory=dict)
    inputs: list = field(default_factory=list)  # [(codes int8 [N, ...], scale f32, zero_point)]
    output: tuple = (f32(1), 0)  # (scale, zero_point)
    weight: np.ndarray | None = None  # int8 [c_out, ...]
    weight_scale: np.ndarray | None = None  # f32 [c_out]
    bias: np.ndarray | None = None  # int32 [c_out]
    relu: bool = False  # fused after the operator


# The node that ONNX Runtime must have left in the optimized graph, else the comparison would be about float execution.
FUSED = {
    "conv2d": "QLinearConv",
    "linear": "QGemm",
    "add": "QLinearAdd",
    "max_pool2d": "MaxPool",
    "avg_pool2d": "QLinearAveragePool",
    "global_avg_pool2d": "QLinearGlobalAveragePool",
    "relu": "Relu",
}


def build_model(p: Problem) -> onnx.ModelProto:
    """The QDQ graph of one problem; the batch is fixed."""
    nodes, constants, graph_inputs, operands = [], [], [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    for i, (codes, scale, zero_point) in enumerate(p.inputs):
        graph_inputs.append(helper.make_tensor_value_info(f"x{i}", TensorProto.UINT8, codes.shape))
        params = [constant(f"x{i}_scale", f32(scale)), constant(f"x{i}_zp", np.uint8(zero_point + 128))]
        nodes.append(helper.make_node("DequantizeLinear", [f"x{i}", *params], [f"x{i}_real"]))
        operands.append(f"x{i}_real")
    if p.weight is not None:
        zeros = np.zeros(len(p.weight_scale), np.int8)
        params = [constant("w_scale", p.weight_scale), constant("w_zp", zeros)]
        nodes.append(helper.make_node("DequantizeLinear", [constant("w", p.weight), *params], ["w_real"], axis=0))
        bias_scale = (f32(p.inputs[0][1]) * p.weight_scale).astype(f32)
        params = [constant("b_scale", bias_scale), constant("b_zp", zeros.astype(np.int32))]
        nodes.append(helper.make_node("DequantizeLinear", [constant("b", p.bias), *params], ["b_real"], axis=0))
        operands += ["w_real", "b_real"]
    a = p.attributes
    if p.op == "conv2d":
        kinds = dict(kernel_shape=a["kernel"], strides=a["stride"], pads=a["padding"], dilations=a["dilation"])
        nodes.append(helper.make_node("Conv", operands, ["y_real"], group=a["groups"][0], **kinds))
    elif p.op == "linear":
        nodes.append(helper.make_node("Gemm", operands, ["y_real"], transB=1))
    elif p.op == "add":
        nodes.append(helper.make_node("Add", operands, ["y_real"]))
    elif p.op == "max_pool2d":
        kinds = dict(kernel_shape=a["kernel"], strides=a["stride"], pads=a["padding"], dilations=a["dilation"])
        nodes.append(helper.make_node("MaxPool", operands, ["y_real"], **kinds))
    elif p.op == "avg_pool2d":
        kinds = dict(kernel_shape=a["kernel"], strides=a["stride"], pads=a["padding"])
        nodes.append(helper.make_node("AveragePool", operands, ["y_real"], count_include_pad=a["count_include_pad"][0], **kinds))
    elif p.op == "global_avg_pool2d":
        nodes.append(helper.make_node("GlobalAveragePool", operands, ["y_real"]))
    elif p.op == "relu":
        nodes.append(helper.make_node("Relu", operands, ["y_real"]))
    last = "y_real"
    if p.relu:
        nodes.append(helper.make_node("Relu", [last], ["y_relu"]))
        last = "y_relu"
    scale, zero_point = p.output
    params = [constant("y_scale", f32(scale)), constant("y_zp", np.uint8(zero_point + 128))]
    nodes.append(helper.make_node("QuantizeLinear", [last, *params], ["y"]))
    outputs = [helper.make_tensor_value_info("y", TensorProto.UINT8, None)]
    graph = helper.make_graph(nodes, "problem", graph_inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def run_peer(p: Problem, threads: int) -> np.ndarray:
    """Output codes of ONNX Runtime as int8; raises if the operator was not fused."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
        session = ort.InferenceSession(build_model(p).SerializeToString(), options, providers=["CPUExecutionProvider"])
        kinds = {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}
    if FUSED[p.op] not in kinds:
        raise SystemExit(f"{p.name}: expected {FUSED[p.op]} in the optimized graph, found {sorted(kinds)}")
    codes = session.run(None, {f"x{i}": (x.astype(np.int16) + 128).astype(np.uint8) for i, (x, _, _) in enumerate(p.inputs)})[0]
    return (codes.astype(np.int16) - 128).astype(np.int8)



def requantize(acc: np.ndarray, multiplier: np.ndarray, zero_point: int) -> np.ndarray:
    """clamp(rne(f32(acc) * multiplier) + zero_point)."""
    scaled = np.rint(acc.astype(f32) * multiplier.astype(f32)).astype(np.float64)
    return np.clip(scaled + zero_point, -128, 127).astype(np.int8)


def windows(x: np.ndarray, p: Problem, fill) -> np.ndarray:
    """[N, C, H, W] to [N, C, H_out, W_out, k_h, k_w], padded with `fill`."""
    (kh, kw), (sh, sw) = p.attributes["kernel"], p.attributes["stride"]
    dh, dw = p.attributes.get("dilation", [1, 1])
    top, left, bottom, right = p.attributes["padding"]
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)
    spans = ((kh - 1) * dh + 1, (kw - 1) * dw + 1)
    view = np.lib.stride_tricks.sliding_window_view(x, spans, axis=(2, 3))
    return view[:, :, ::sh, ::sw, ::dh, ::dw]


def multipliers(p: Problem) -> np.ndarray:
    """(s_in * s_w) / s_out, each step in f32."""
    return (f32(p.inputs[0][1]) * p.weight_scale.astype(f32)).astype(f32) / f32(p.output[0])


def expect_conv2d(p: Problem) -> np.ndarray:
    codes, _, zero_point = p.inputs[0]
    groups = p.attributes["groups"][0]
    x = windows(codes.astype(np.float64) - zero_point, p, 0.0)
    n, c, h, w = x.shape[:4]
    x = x.reshape(n, groups, c // groups, h, w, -1)
    weight = p.weight.astype(np.float64).reshape(groups, -1, c // groups, x.shape[-1])
    # Sums of products of 8-bit integers stay far below 2^53, so float64 is exact.
    acc = np.einsum("ngchwk,gock->ngohw", x, weight, optimize=True).reshape(n, -1, h, w)
    acc = acc.astype(np.int64) + p.bias[None, :, None, None]
    return requantize(acc, multipliers(p)[None, :, None, None], p.output[1])


def expect_linear(p: Problem) -> np.ndarray:
    codes, _, zero_point = p.inputs[0]
    acc = (codes.astype(np.float64) - zero_point) @ p.weight.astype(np.float64).T
    return requantize(acc.astype(np.int64) + p.bias, multipliers(p), p.output[1])


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


def expect_add(p: Problem) -> np.ndarray:
    """rne(fma(a, s_a/s_o, fma(b, s_b/s_o, fixed))) on uint8 codes, fixed = z_o - fma(s_a/s_o, z_a, (s_b/s_o) * z_b)."""
    (a, scale_a, zero_a), (b, scale_b, zero_b) = p.inputs
    scale, zero_point = p.output
    ratio_a, ratio_b = f32(scale_a) / f32(scale), f32(scale_b) / f32(scale)
    fixed = f32(zero_point + 128) - fma(ratio_a, f32(zero_a + 128), ratio_b * f32(zero_b + 128))
    total = fma(a.astype(f32) + f32(128), ratio_a, fma(b.astype(f32) + f32(128), ratio_b, fixed))
    return (np.clip(np.rint(total), 0, 255) - 128).astype(np.int8)


def expect_max_pool2d(p: Problem) -> np.ndarray:
    return windows(p.inputs[0][0], p, -128).max(axis=(4, 5))


def expect_avg_pool2d(p: Problem) -> np.ndarray:
    """A pool over the whole image without padding is the global one; else the real values are summed in f32, row by row."""
    codes, scale, zero_point = p.inputs[0]
    if list(codes.shape[2:]) == p.attributes["kernel"] and not any(p.attributes["padding"]):
        return expect_global_avg_pool2d(p)
    real = windows(f32(scale) * (codes.astype(f32) - f32(zero_point)), p, 0.0)
    inside = windows(np.ones(codes.shape, f32), p, 0.0)
    total = np.zeros(real.shape[:4], f32)
    count = np.zeros(real.shape[:4], f32)
    for i in range(real.shape[4]):
        for j in range(real.shape[5]):
            total = total + real[..., i, j]
            count = count + inside[..., i, j]
    if p.attributes["count_include_pad"][0]:
        count = f32(real.shape[4] * real.shape[5])
    mean = total / count
    code = np.rint(mean / f32(p.output[0]) + f32(p.output[1] + 128))
    return (np.clip(code, 0, 255) - 128).astype(np.int8)


def expect_global_avg_pool2d(p: Problem) -> np.ndarray:
    """clamp(rne(f32(sum of (q - z_in)) * f32(s_in / (s_out * n))) + z_out)."""
    codes, scale, zero_point = p.inputs[0]
    size = codes.shape[2] * codes.shape[3]
    acc = (codes.astype(np.int64) - zero_point).sum(axis=(2, 3), keepdims=True)
    return requantize(acc, f32(scale) / (f32(p.output[0]) * f32(size)), p.output[1])


def expect_relu(p: Problem) -> np.ndarray:
    return np.maximum(p.inputs[0][0], np.int8(p.inputs[0][2]))


def expect(p: Problem) -> np.ndarray:
    """What the formulas give; a fused relu needs no step of its own because its output zero point is the lowest code."""
    return globals()[f"expect_{p.op}"](p)


# `near-ties` has decimal steps: ratios such as 0.3 / 0.2 put real values on ties that f32 misses by one rounding or another.
KINDS = ("ties", "near-ties", "random", "saturating")


def draw_scale(rng, kind: str, low: float, high: float) -> np.float32:
    """A step in [low, high], log-uniform; a power of two for `ties`, one or two decimal digits for `near-ties`."""
    scale = np.exp(rng.uniform(np.log(low), np.log(high)))
    if kind == "near-ties":
        return decimal(scale)
    return f32(2.0 ** np.round(np.log2(scale))) if kind == "ties" else f32(scale)


def decimal(scale: float) -> np.float32:
    """The nearest number with one significant decimal digit."""
    return f32(float(f"{scale:.0e}"))


def draw_codes(rng, shape) -> np.ndarray:
    """Half uniform, a quarter near zero, a quarter extreme."""
    uniform = rng.integers(-128, 128, shape)
    near = rng.integers(-3, 4, shape)
    extreme = rng.choice([-128, -127, 126, 127], shape)
    which = rng.integers(0, 4, shape)
    return np.where(which < 2, uniform, np.where(which == 2, near, extreme)).astype(np.int8)


def draw_zero(rng) -> int:
    return int(rng.choice([-128, 127, 0, *rng.integers(-128, 128, 5)]))


def draw_zeros(rng, kind: str, ratio: float) -> tuple:
    """Zero points of an averaging operator: anywhere for `saturating`, else such that the middle of the codes stays in range."""
    if kind == "saturating":
        return draw_zero(rng), draw_zero(rng)
    zero_in = int(rng.integers(-128, 128))
    return zero_in, int(np.clip(np.rint(zero_in * ratio) + rng.integers(-30, 31), -128, 127))


def draw_weighted(rng, kind: str, name: str, op: str, attributes: dict, x_shape, w_shape, relu: bool) -> Problem:
    """Weights, bias and an output scale under which the accumulators span the codes (many times, for `saturating`)."""
    zero_in, scale_in = draw_zero(rng), draw_scale(rng, kind, 1e-3, 1.0)
    codes = draw_codes(rng, x_shape)
    weight = rng.integers(-127, 128, w_shape).astype(np.int8)
    weight_scale = np.array([draw_scale(rng, kind, 1e-3, 1e-2) for _ in range(w_shape[0])], f32)
    spread = np.sqrt(np.prod(w_shape[1:])) * 73 * np.sqrt(73**2 + zero_in**2)
    bias = rng.normal(0, spread / 2, w_shape[0]).astype(np.int32)
    reach = 600.0 if kind == "saturating" else 60.0
    scale_out = f32(scale_in * weight_scale.mean()) * f32(spread / reach)
    if kind == "ties":
        scale_out = f32(2.0 ** np.round(np.log2(scale_out)))
    elif kind == "near-ties":
        scale_out = decimal(scale_out)
    output = (f32(scale_out), -128 if relu else draw_zero(rng))
    return Problem(name, op, attributes, [(codes, scale_in, zero_in)], output, weight, weight_scale, bias, relu)


def conv_variants(small: bool):
    """(name, c_in, c_out, h, w, attributes)."""
    size = (8, 7) if small else (24, 21)

    def a(kernel, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1):
        return dict(kernel=list(kernel), stride=list(stride), padding=list(padding), dilation=list(dilation), groups=[groups])

    return [
        ("plain", 3, 4, *size, a((3, 3))),
        ("stride2", 2, 5, *size, a((3, 3), (2, 2), (1, 1, 1, 1))),
        ("asymmetric", 3, 3, *size, a((3, 2), (1, 2), (0, 1, 2, 0))),
        ("dilation", 2, 4, *size, a((3, 3), (1, 1), (2, 2, 2, 2), (2, 2))),
        ("groups", 4, 6, *size, a((3, 3), (1, 1), (1, 1, 1, 1), groups=2)),
        ("depthwise", 5, 5, *size, a((3, 3), (1, 1), (1, 1, 1, 1), groups=5)),
        ("pointwise", 6, 8, *size, a((1, 1))),
        ("large-kernel", 1, 3, *size, a((5, 5), (1, 1), (2, 2, 2, 2))),
    ]


def problems(rng, op: str, batch: int, small: bool):
    """All problems of an operator: every variant under every kind of scales."""
    size = (8, 7) if small else (24, 21)
    for kind in KINDS:
        if op == "conv2d":
            for name, c_in, c_out, h, w, attributes in conv_variants(small):
                for relu in (False, True):
                    if small and relu and name not in ("plain", "depthwise"):
                        continue
                    w_shape = (c_out, c_in // attributes["groups"][0], *attributes["kernel"])
                    label = f"{name}-{kind}" + ("-relu" if relu else "")
                    yield draw_weighted(rng, kind, label, op, attributes, (batch, c_in, h, w), w_shape, relu)
        elif op == "linear":
            for d_in, d_out in ((7, 5), (33, 10)) if small else ((7, 64), (120, 84), (400, 120)):
                for relu in (False, True):
                    label = f"{d_in}x{d_out}-{kind}" + ("-relu" if relu else "")
                    yield draw_weighted(rng, kind, label, op, {}, (batch * 8, d_in), (d_out, d_in), relu)
        elif op == "add":
            for i in range(6):
                scales = [draw_scale(rng, kind, 0.02, 0.2) for _ in range(2)]
                low, high = (0.005, 0.03) if kind == "saturating" else (0.1, 0.4)
                scale_out = draw_scale(rng, kind, low, high)
                if kind == "ties" and i >= 3:
                    # Steps of three, five, seven units keep exact ties while the ratios are no longer powers of two.
                    scales = [f32(s * k) for s, k in zip(scales, rng.choice([3, 5, 7], 2))]
                relu = i % 3 == 2
                inputs = [(draw_codes(rng, (batch, 3, *size)), s, draw_zero(rng)) for s in scales]
                output = (scale_out, -128 if relu else draw_zero(rng))
                yield Problem(f"{i}-{kind}" + ("-relu" if relu else ""), op, {}, inputs, output, relu=relu)
        elif op == "max_pool2d":
            if kind != "random":
                continue
            for kernel, stride, padding, dilation in (
                ([2, 2], [2, 2], [0, 0, 0, 0], [1, 1]),
                ([3, 3], [2, 2], [1, 1, 1, 1], [1, 1]),
                ([3, 2], [1, 2], [1, 0, 2, 1], [1, 1]),
                ([2, 2], [1, 1], [0, 0, 0, 0], [2, 2]),
            ):
                scale, zero = draw_scale(rng, kind, 1e-3, 1.0), draw_zero(rng)
                attributes = dict(kernel=kernel, stride=stride, padding=padding, dilation=dilation)
                name = "k{}x{}-s{}x{}-p{}{}{}{}-d{}".format(*kernel, *stride, *padding, dilation[0])
                yield Problem(name, op, attributes, [(draw_codes(rng, (batch, 3, *size)), scale, zero)], (scale, zero))
        elif op == "avg_pool2d":
            for kernel, stride, padding in (
                ([2, 2], [2, 2], [0, 0, 0, 0]),
                ([3, 3], [1, 1], [1, 1, 1, 1]),
                ([3, 2], [2, 1], [0, 1, 2, 0]),
                (list(size), [1, 1], [0, 0, 0, 0]),
            ):
                for include in (0, 1):
                    scale = draw_scale(rng, kind, 0.01, 0.1)
                    ratio = {"ties": 0.5, "near-ties": 0.4, "random": 0.77, "saturating": 0.1}[kind]
                    zero_in, zero_out = draw_zeros(rng, kind, 1 / ratio)
                    if kind == "near-ties":
                        # The zero point is added before rounding: a small one keeps the f32 error of the quotient visible.
                        zero_in, zero_out = int(rng.integers(-5, 6)), int(rng.integers(-128, -120))
                    attributes = dict(kernel=kernel, stride=stride, padding=padding, count_include_pad=[include])
                    name = "k{}x{}-s{}x{}-p{}{}{}{}-i{}-{}".format(*kernel, *stride, *padding, include, kind)
                    codes = draw_codes(rng, (batch, 3, *size))
                    yield Problem(name, op, attributes, [(codes, scale, zero_in)], (f32(scale * f32(ratio)), zero_out))
        elif op == "global_avg_pool2d":
            for h, w in ((2, 2), (4, 4), (3, 5), (5, 7)):
                scale = draw_scale(rng, kind, 0.01, 0.1)
                ratio = {"ties": 0.25, "near-ties": 0.4, "random": 0.17, "saturating": 0.03}[kind]
                codes = draw_codes(rng, (batch * (1 if small else 64), 20, h, w))
                zero_in, zero_out = draw_zeros(rng, kind, 1 / ratio)
                if kind != "saturating":
                    # A zero point near the codes' mean, as the steps of the output are finer than those of the input.
                    zero_in, zero_out = int(rng.integers(-20, 21)), int(rng.integers(-20, 21))
                yield Problem(f"{h}x{w}-{kind}", op, {}, [(codes, scale, zero_in)], (f32(scale * f32(ratio)), zero_out))
        elif op == "relu":
            # A zero point above the lowest code, so that ONNX Runtime cannot drop the node.
            scale, zero = draw_scale(rng, kind, 1e-3, 1.0), int(rng.integers(-100, 100))
            codes = draw_codes(rng, (batch * (1 if small else 8), 3, *size))
            yield Problem(f"standalone-{kind}", op, {}, [(codes, scale, zero)], (scale, zero))



def check(seed: int, outputs: int, ops: list, threads: int) -> int:
    """Compares formulas and peer until each operator has given `outputs` codes; returns the number of differences."""
    print(f"onnxruntime {ort.__version__}, onnx {onnx.__version__}, numpy {np.__version__}, seed {seed}, threads {threads}")
    differences = 0
    for op in ops:
        rng = np.random.default_rng([seed, sorted(FUSED).index(op)])
        total = wrong = largest = saturated = 0
        while total < outputs:
            for p in problems(rng, op, 8, False):
                expected, found = expect(p), run_peer(p, threads)
                delta = np.abs(expected.astype(np.int16) - found.reshape(expected.shape))
                bad = int((delta != 0).sum())
                if bad:
                    print(f"  {op} {p.name}: {bad} of {delta.size} differ, largest {delta.max()}")
                total, wrong, largest = total + delta.size, wrong + bad, max(largest, int(delta.max()))
                saturated += int(((found == -128) | (found == 127)).sum())
        print(f"{op}: {wrong} of {total} differ, largest {largest} LSB; {100 * saturated / total:.0f} % at the ends of the range")
        differences += wrong
    return differences


def hexes(array) -> str:
    """Little-endian bytes in hexadecimal; `-` for an empty array."""
    return np.ascontiguousarray(array).astype(np.asarray(array).dtype.newbyteorder("<")).tobytes().hex() or "-"


def write_goldens(seed: int) -> int:
    """One text file an operator. Returns the number of differences between formulas and peer in the cases written."""
    GOLDENS.mkdir(parents=True, exist_ok=True)
    differences = 0
    for index, op in enumerate(sorted(FUSED)):
        rng = np.random.default_rng([seed, index])
        lines = [
            f"# {op}: output codes of ONNX Runtime, QDQ graph, uint8 activations (code + 128), int8 weights, default session.",
            f"# Written by tests/peers/op_parity.py with onnxruntime {ort.__version__}, onnx {onnx.__version__}, "
            f"numpy {np.__version__}; seed {seed}.",
            f"# Command: python tests/peers/op_parity.py goldens --seed {seed}",
            "# Arrays: dimensions, a colon, the bytes in hexadecimal, little-endian (i8, i32 and f32 by field).",
        ]
        for p in problems(rng, op, 1 if op in ("linear",) else 2, True):
            found = run_peer(p, 1)
            differences += int((found.reshape(-1) != expect(p).reshape(-1)).sum())
            lines.append(f"case {p.name}")
            for key, values in p.attributes.items():
                lines.append(f"{key} {' '.join(map(str, values))}")
            lines.append(f"relu {int(p.relu)}")
            for codes, scale, zero_point in p.inputs:
                lines.append(f"input {hexes(f32(scale))} {zero_point} {' '.join(map(str, codes.shape))} : {hexes(codes)}")
            if p.weight is not None:
                lines.append(f"weight {' '.join(map(str, p.weight.shape))} : {hexes(p.weight)}")
                lines.append(f"weight_scale {len(p.weight_scale)} : {hexes(p.weight_scale)}")
                lines.append(f"bias {len(p.bias)} : {hexes(p.bias)}")
            lines.append(f"output {hexes(f32(p.output[0]))} {p.output[1]} {' '.join(map(str, found.shape))} : {hexes(found)}")
        path = GOLDENS / f"{op}.txt"
        path.write_text("\n".join(lines) + "\n")
        print(f"{path.name}: {sum(line.startswith('case') for line in lines)} cases, {path.stat().st_size} bytes")
    return differences


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    compare = commands.add_parser("check", help="compare formulas and ONNX Runtime")
    compare.add_argument("--outputs", type=int, default=1_000_000, help="codes an operator")
    compare.add_argument("--seed", type=int, default=1)
    compare.add_argument("--threads", type=int, default=1)
    compare.add_argument("--ops", nargs="+", choices=sorted(FUSED), default=sorted(FUSED))
    goldens = commands.add_parser("goldens", help="write the golden files")
    goldens.add_argument("--seed", type=int, default=20261123)
    arguments = parser.parse_args()
    if arguments.command == "check":
        differences = check(arguments.seed, arguments.outputs, arguments.ops, arguments.threads)
    else:
        differences = write_goldens(arguments.seed)
    print(f"{differences} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
