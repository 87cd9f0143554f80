#!/usr/bin/env python3
"""The multiply-accumulate operators of ONNX Runtime, LiteRT and TFLite-Micro, stated as formulas and compared bit for bit.

The formulas are in tests/peers/rules: fixed_point.py and float_sum.py have the arithmetic, one module a family says which
engine computes which operator by which rule. A rule that begins with `~` is the nearest known one: its differences are shown
and must stay within 1 LSB, but do not fail the comparison. A rule of None is a refusal, which must come.

    python tests/peers/weighted_parity.py check --outputs 100000 --seed 1     compare; exit status 1 on any difference
    python tests/peers/weighted_parity.py goldens --seed 20261124             write crates/runtime/tests/goldens/weighted/*.txt

QAT_TFLM_PYTHON names the Python of TFLite-Micro's environment; without it that engine is left out of `check`.
Equality is claimed for x86-64 with AVX-512 VNNI (or AVX-VNNI).
"""

import argparse
import importlib.metadata
import os
import pathlib
import subprocess
import sys

import numpy as np

from rules import activations_int16, conv, fixed_point, float_sum, linear, matmul, transpose_conv, weights_int4
from rules import weighted_engines, weighted_onnx, weighted_tflite
from rules.weighted import KINDS, Weighted, exact_sum, finish

GOLDENS = pathlib.Path(__file__).resolve().parents[2] / "crates" / "runtime" / "tests" / "goldens" / "weighted"
FAMILIES = {
    "conv": conv,
    "linear": linear,
    "transpose_conv": transpose_conv,
    "matmul": matmul,
    "weights_int4": weights_int4,
    "activations_int16": activations_int16,
}
# Families whose goldens hold each variant under one kind of scales instead of all.
THINNED = ("weights_int4", "activations_int16")

ENGINES = ("onnxruntime", "onnxruntime-qop", "litert", "litert-ref", "tflm")

# A rule of integers: what brings the sum to a code, and how its real multiplier is computed.
RULES = {
    "fp32-rne": (fixed_point.fp32_rne, fixed_point.multiplier_f32),
    "gemmlowp": (fixed_point.gemmlowp, fixed_point.multiplier_f64),
    "gemmlowp-mixed": (fixed_point.gemmlowp, fixed_point.multiplier_mixed),
    "half-up": (fixed_point.ruy, fixed_point.multiplier_f64),
    "half-up-mixed": (fixed_point.ruy, fixed_point.multiplier_mixed),
    "gemmlowp64": (fixed_point.gemmlowp64, fixed_point.multiplier_f64),
    "f64-half-away": (fixed_point.f64_half_away, fixed_point.multiplier_f64),
}


def expect(p: Weighted, rule: str, acc: np.ndarray) -> np.ndarray:
    """Output codes by a rule."""
    rule = rule.removeprefix("~")
    if rule == "f32-sum":
        return float_sum.codes(p)
    scaled, multiplier = RULES[rule]
    return finish(p, scaled(acc, p.channels(multiplier(p.x_scale, p.weight_scale, p.y_scale))))


def run(engine: str, p: Weighted, rule: str | None, y_shape: tuple) -> np.ndarray:
    """Output codes of an engine in the problem's layout; raises where a rule of integers was computed in float."""
    if not engine.startswith("onnxruntime"):
        if p.op == "transpose_conv2d" and transpose_conv.is_onnx_only(p):
            raise weighted_engines.Refused("TFLite has no transposed convolution of this form")
        model = weighted_tflite.build(p, y_shape)
        return weighted_tflite.nchw(weighted_engines.run(engine, model, weighted_tflite.operands(p)))
    operators = engine == "onnxruntime-qop"
    if operators and (p.bits < 8 or p.wide or p.op == "transpose_conv2d" or p.op == "linear" and p.bias is not None):
        raise weighted_engines.Refused("no quantized operator takes this problem")
    codes, kinds = weighted_onnx.run(p, operators)
    fused = weighted_onnx.FUSED.get(p.op) if rule == "fp32-rne" else None
    if not operators and fused and not kinds & {fused, "QLinearMatMul"}:
        raise SystemExit(f"{p.name}: expected {fused} in the optimized graph, found {sorted(kinds)}")
    return codes


def compare(engine: str, family, p: Weighted, acc: np.ndarray) -> tuple | None:
    """(rule, number of codes, number different, largest difference), or None for a refusal that was expected."""
    rule = family.rule(engine, p)
    try:
        found = run(engine, p, rule, acc.shape)
    except weighted_engines.Refused as refusal:
        if rule is None:
            return None
        raise SystemExit(f"{engine} {p.name}: expected {rule}, found a refusal: {refusal}") from refusal
    if rule is None:
        raise SystemExit(f"{engine} {p.name}: expected a refusal, found codes")
    delta = np.abs(expect(p, rule, acc).astype(np.int64) - found.reshape(acc.shape))
    return rule, delta.size, int((delta != 0).sum()), int(delta.max())


def check(seed: int, outputs: int, families: list, engines: list) -> int:
    """Draws problems until each family has given `outputs` codes; returns the number of unexplained differences."""
    print(f"{versions()}, seed {seed}")
    differences = 0
    for name in families:
        family, rng = FAMILIES[name], np.random.default_rng([seed, sorted(FAMILIES).index(name)])
        table, total = {}, 0
        while total < outputs:
            for kind in KINDS:
                for p in family.problems(rng, kind, 4, False):
                    acc = exact_sum(p)
                    total += acc.size
                    for engine in engines:
                        result = compare(engine, family, p, acc)
                        if result is None:
                            table[engine, p.op, f"int{p.bits}", "refused"] = (0, 0, 0)
                            continue
                        rule, *counts = result
                        if counts[1] and not rule.startswith("~"):
                            print(f"  {engine} {p.name} ({rule}): {counts[1]} of {counts[0]} differ, largest {counts[2]}")
                        key = engine, p.op, f"int{p.bits}", rule
                        old = table.get(key, (0, 0, 0))
                        table[key] = old[0] + counts[0], old[1] + counts[1], max(old[2], counts[2])
        print(f"{name}: {family.SUMMARY}")
        for (engine, op, bits, rule), (size, wrong, largest) in sorted(table.items()):
            share = f"{wrong} of {size} differ" + (f", largest {largest} LSB" if wrong else "")
            print(f"  {engine:16} {op:17} {bits} weights  {rule:16} {share if rule != 'refused' else ''}".rstrip())
            differences += wrong if not rule.startswith("~") else int(largest > 1)
    return differences


def versions() -> str:
    names = ("onnxruntime", "onnx", "ai-edge-litert", "numpy")
    found = [f"{name} {importlib.metadata.version(name)}" for name in names]
    if python := os.environ.get("QAT_TFLM_PYTHON"):
        code = "import importlib.metadata as m; print(m.version('tflite-micro'))"
        found.append("tflite-micro " + subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip())
    return ", ".join(found)


def hexes(array) -> str:
    """Little-endian bytes in hexadecimal; `-` for an empty array."""
    return np.ascontiguousarray(array).astype(np.asarray(array).dtype.newbyteorder("<")).tobytes().hex() or "-"


def is_float_weight(p: Weighted) -> bool:
    """Whether ONNX Runtime takes the packed weights and computes in float, for which no ONNX file of this workspace has them."""
    return p.bits < 8 and not p.wide and p.op != "transpose_conv2d"


def case(family, p: Weighted) -> tuple:
    """The lines of one golden case and the number of differences between formulas and engines in it."""
    acc = exact_sum(p)
    lines = [f"case {p.name}", f"op {p.op}", f"relu {int(p.relu)}", f"bits {p.bits}"]
    lines += [f"{key} {' '.join(map(str, values))}" for key, values in p.attributes.items()]
    lines.append(f"input {hexes(p.x_scale)} {p.x_zero} {' '.join(map(str, p.x.shape))} : {hexes(p.x)}")
    lines.append(f"weight {p.weight_zero} {' '.join(map(str, p.weight.shape))} : {hexes(p.weight)}")
    lines.append(f"weight_scale {len(p.weight_scale)} : {hexes(p.weight_scale)}")
    if p.bias is not None:
        lines.append(f"bias {len(p.bias)} : {hexes(p.bias)}")
    lines.append(f"output {hexes(p.y_scale)} {p.y_zero} {' '.join(map(str, acc.shape))}")
    differences, by_codes = 0, {}
    for engine in ENGINES:
        rule = family.rule(engine, p)
        if rule is None or rule.startswith("~") or engine == "onnxruntime" and is_float_weight(p):
            continue
        found = run(engine, p, rule, acc.shape).reshape(acc.shape)
        differences += int((found != expect(p, rule, acc)).sum())
        by_codes.setdefault(found.tobytes(), (found, []))[1].append(f"{engine}={rule}")
    lines += [f"codes {' '.join(engines)} : {hexes(found)}" for found, engines in by_codes.values()]
    return lines, differences


def write_goldens(seed: int) -> int:
    """One text file a family. Returns the number of differences between formulas and engines in the cases written."""
    GOLDENS.mkdir(parents=True, exist_ok=True)
    differences = 0
    for name, family in FAMILIES.items():
        rng = np.random.default_rng([seed, sorted(FAMILIES).index(name)])
        lines = [
            f"# {family.SUMMARY}: output codes of ONNX Runtime (QDQ and quantized operators), LiteRT (default and reference)",
            "# and TFLite-Micro; `codes` names the engines that gave them, each with the rule that computes them.",
            f"# Written by tests/peers/weighted_parity.py with {versions()}; seed {seed}.",
            f"# Command: python tests/peers/weighted_parity.py goldens --seed {seed}",
            "# Arrays: dimensions, a colon, the bytes in hexadecimal, little-endian (i8, i16, i32, i64 and f32 by field).",
        ]
        for turn, kind in enumerate(KINDS):
            for index, p in enumerate(family.problems(rng, kind, 1, True)):
                if name in THINNED and (index + turn) % len(KINDS):
                    continue
                case_lines, wrong = case(family, p)
                lines, differences = lines + case_lines, differences + wrong
        path = GOLDENS / f"{name}.txt"
        path.write_text("\n".join(lines) + "\n")
        print(f"{path.name}: {sum(line.startswith('case') for line in lines)} cases, {path.stat().st_size} bytes")
    return differences


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    compared = commands.add_parser("check", help="compare formulas and engines")
    compared.add_argument("--outputs", type=int, default=100_000, help="least number of codes a family")
    compared.add_argument("--seed", type=int, default=1)
    compared.add_argument("--families", nargs="+", choices=FAMILIES, default=list(FAMILIES))
    compared.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    goldens = commands.add_parser("goldens", help="write the golden files")
    goldens.add_argument("--seed", type=int, default=20261124)
    arguments = parser.parse_args()
    tflm = bool(os.environ.get("QAT_TFLM_PYTHON"))
    if arguments.command == "check":
        engines = [engine for engine in arguments.engines if engine != "tflm" or tflm]
        if engines != arguments.engines:
            print("tflm is left out: QAT_TFLM_PYTHON is not set")
        differences = check(arguments.seed, arguments.outputs, arguments.families, engines)
    elif not tflm:
        raise SystemExit("goldens need TFLite-Micro: expected QAT_TFLM_PYTHON, found nothing")
    else:
        differences = write_goldens(arguments.seed)
    print(f"{differences} differences")
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
