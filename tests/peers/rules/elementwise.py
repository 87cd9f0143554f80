#!/usr/bin/env python3
"""Element-wise operations, pools, means and tables of other runtimes: formulas against engines, bit for bit.

    python tests/peers/rules/elementwise.py check --engines litert litert-ref tflm onnx --outputs 200000 --seed 1

Exit status 1 on any difference that `KNOWN` does not list. Engines: ONNX Runtime's default session on a QDQ graph with uint8
codes, LiteRT's default session, LiteRT's reference kernels, TFLite-Micro (interpreter in QAT_TFLM_PYTHON).
"""

import argparse
import sys
from collections import defaultdict

import numpy as np

import elementwise_onnxruntime
import elementwise_tflite
import elementwise_xnnpack
from onnx_engine import EXPECTED, run_onnx
from problem import KINDS, Problem, decimal, draw_codes, draw_scale, draw_zero, f32, power_of_two
from tflite_engines import run_litert, run_tflm
from tflite_model import write_model

OPS = ["add", "sub", "mul", "avg_pool", "max_pool", "mean", "relu", "relu6", "requantize", "sigmoid", "tanh", "hard_swish",
       "gelu", "leaky_relu", "softmax"]


def near(scale, kind: str):
    """An output scale in the manner of `kind`."""
    return {"ties": power_of_two, "near-ties": decimal}.get(kind, f32)(scale)


def draw(rng, op: str, kind: str, dtype: str, index: int, size: int = 4096, narrow: bool = False) -> Problem:
    """One problem; `size` codes or so. `narrow`: every tensor has int8 codes."""
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
    if op == "requantize" and index % 4 == 2 and not narrow:
        output_dtype = {"int8": "int16", "int16": "int8"}[dtype]
        output = (near(f32(scale * f32(ratio * loss)) * (1 / 256 if dtype == "int8" else 256), kind), draw_zero(rng, output_dtype))
    inputs = [(every, scale, zero())]
    if op == "relu6" and index % 2:
        inputs = [(every, *output)]
    if op == "leaky_relu":
        attributes = dict(alpha=f32([0.01, 0.1, 0.25, 0.3, rng.uniform(0.05, 0.9)][index % 5]))
    if op == "gelu":
        attributes = dict(approximate=bool(index % 2))
    return Problem(name, op, inputs, output, dtype, output_dtype, attributes=attributes)


ENGINES = ("onnx", "litert", "litert-ref", "tflm")
# Operations that have no model or no such rule in an engine; the pools of ONNX Runtime are in `op_parity.py`.
ABSENT = {("onnx", "avg_pool"), ("onnx", "max_pool"), ("tflm", "gelu")}


def expect(p: Problem, engine: str) -> np.ndarray:
    """What the formulas give."""
    if engine == "onnx":
        return elementwise_onnxruntime.expect(p)
    return elementwise_xnnpack.expect(p) if engine == "litert" else elementwise_tflite.expect(p, engine)


def compare(problems: list, engine: str, report: dict):
    """Runs problems in one engine and adds up differences by operation and type."""
    if engine == "litert":
        problems = [p for p in problems if elementwise_xnnpack.is_covered(p)]
    pairs = [(p, expect(p, engine)) for p in problems]
    if engine == "onnx":
        results = [[run_onnx(p)[0]] for p, _ in pairs]
    else:
        jobs = [(write_model(p, [y.shape]), [x for x, _, _ in p.inputs]) for p, y in pairs]
        results = run_tflm(jobs) if engine == "tflm" else [run_litert(*job, engine) for job in jobs]
    for (p, y), found in zip(pairs, results):
        row = report[engine, p.op, p.dtype]
        if isinstance(found, str):
            row["refused"] += 1
            row["reason"] = found
            continue
        delta = np.abs(found[0].reshape(y.shape).astype(np.int64) - y)
        row["outputs"] += delta.size
        row["different"] += int((delta != 0).sum())
        row["largest"] = max(row["largest"], int(delta.max()))
        if delta.any():
            row["cases"].append((p.name, int((delta != 0).sum()), delta.size))


def check(engines, ops, dtypes, seed: int, outputs: int, verbose: bool) -> int:
    """Prints a row for each operation, type and engine; returns the number of differences."""
    report = defaultdict(lambda: dict(outputs=0, different=0, largest=0, refused=0, reason="", cases=[]))
    for op in ops:
        for dtype in dtypes:
            for engine in engines:
                if (engine, op) in ABSENT or (engine == "onnx" and dtype == "int16"):
                    continue
                index = 0
                while report[engine, op, dtype]["outputs"] < outputs:
                    rng = np.random.default_rng([seed, OPS.index(op), ("int8", "int16").index(dtype), index])
                    batch = [
                        draw(rng, op, kind, dtype, index + i, narrow=engine == "onnx") for i in range(12) for kind in KINDS
                    ]
                    index += 12
                    compare(batch, engine, report)
                    if not report[engine, op, dtype]["outputs"]:
                        break
                row = report[engine, op, dtype]
                note = f"; {row['refused']} refused: {row['reason'][:110]}" if row["refused"] else ""
                print(f"{op:12} {dtype:5} {engine:10} {row['different']:6} of {row['outputs']:8} differ, "
                      f"largest {row['largest']}{note}", flush=True)
                if verbose:
                    for case in row["cases"][:8]:
                        print("    ", *case)
    return sum(row["different"] for row in report.values())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    compare_command = commands.add_parser("check", help="compare formulas and engines")
    compare_command.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    compare_command.add_argument("--ops", nargs="+", choices=OPS, default=OPS)
    compare_command.add_argument("--dtypes", nargs="+", choices=["int8", "int16"], default=["int8", "int16"])
    compare_command.add_argument("--outputs", type=int, default=200_000, help="codes for each operation, type and engine")
    compare_command.add_argument("--seed", type=int, default=1)
    compare_command.add_argument("--verbose", action="store_true")
    a = parser.parse_args()
    differences = check(a.engines, a.ops, a.dtypes, a.seed, a.outputs, a.verbose)
    print(f"{differences} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
