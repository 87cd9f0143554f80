#!/usr/bin/env python3
"""Element-wise operations, pools, means, functions and movement in other runtimes: formulas against engines, bit for bit.

    python tests/peers/rules/elementwise.py check --outputs 200000 --seed 1     compare; exit status 1 on any difference
    python tests/peers/rules/elementwise.py goldens --seed 20261124             write crates/runtime/tests/goldens/elementwise_*.txt

Engines: ONNX Runtime's default session on a QDQ graph with uint8 codes (`onnx`), LiteRT's default session (`litert`), LiteRT's
reference kernels (`litert-ref`), TFLite-Micro (`tflm`; its interpreter is in QAT_TFLM_PYTHON). The formulas stand in
`elementwise_{onnxruntime,xnnpack,tflite}.py` and `movement.py`; they use no code of this workspace.
"""

import argparse
import importlib.metadata
import pathlib
import sys
from collections import defaultdict

import numpy as np

import elementwise_goldens
import elementwise_onnxruntime
import elementwise_problems
import elementwise_tflite
import elementwise_xnnpack
import movement
from onnx_engine import run_onnx
from problem import KINDS, Problem
from tflite_engines import run_litert, run_tflm, tflm_version
from tflite_model import write_model

ENGINES = ("onnx", "litert", "litert-ref", "tflm")
OPS = [*elementwise_problems.OPS, *movement.OPS]

# What an engine does not have; the pools of ONNX Runtime, which are in `op_parity.py`; its softmax of 16-bit codes, not stated.
ABSENT = {
    ("onnx", "avg_pool"), ("onnx", "max_pool"), ("tflm", "gelu"), ("litert", "hard_swish", "int16"),
    ("onnx", "softmax", "int16"), ("litert-ref", "hard_swish", "int16"), ("tflm", "hard_swish", "int16"), ("tflm", "gather", "int16"),
}

# Shares that may differ, by 1: the tables are made with erfc and tanh of the C library, which are not always the nearest f32.
TOLERATED = {("litert", "gelu", "int16"): 1e-3, ("litert-ref", "gelu", "int16"): 1e-3}


def is_absent(engine: str, op: str, dtype: str) -> bool:
    """Whether there is nothing to compare."""
    return (engine, op) in ABSENT or (engine, op, dtype) in ABSENT


def draw(rng, op: str, kind: str, dtype: str, index: int, engine: str, size: int) -> Problem:
    """One problem of an operation."""
    if op in movement.OPS:
        return movement.draw(rng, op, kind, dtype, index)
    return elementwise_problems.draw(rng, op, kind, dtype, index, size)


def expect(p: Problem, engine: str) -> list:
    """What the formulas give, one array for each output."""
    if p.op in movement.OPS:
        return movement.expect(p)
    if engine == "onnx":
        return [elementwise_onnxruntime.expect(p)]
    return [elementwise_xnnpack.expect(p) if engine == "litert" else elementwise_tflite.expect(p, engine)]


def run(problems: list, engine: str) -> list:
    """`(problem, expected, found)` for the problems whose rule is stated; `found` is a reason where the engine refuses."""
    if engine == "litert":
        problems = [p for p in problems if elementwise_xnnpack.is_covered(p)]
    pairs = [(p, expect(p, engine)) for p in problems]
    if engine == "onnx":
        results = [run_onnx(p) for p, _ in pairs]
    else:
        jobs = [(write_model(p, [y.shape for y in expected]), [x for x, _, _ in p.inputs]) for p, expected in pairs]
        results = run_tflm(jobs) if engine == "tflm" else [run_litert(*job, engine) for job in jobs]
    return [(p, expected, found) for (p, expected), found in zip(pairs, results)]


def count(triples: list, row: dict):
    """Adds a comparison to a row of the report."""
    for p, expected, found in triples:
        if isinstance(found, str):
            row["refused"], row["reason"] = row["refused"] + 1, found
            continue
        for y, z in zip(expected, found, strict=True):
            delta = np.abs(z.reshape(y.shape).astype(np.int64) - y)
            row["outputs"] += delta.size
            row["different"] += int((delta != 0).sum())
            row["largest"] = max(row["largest"], int(delta.max()))
            if delta.any():
                row["cases"].append((p.name, int((delta != 0).sum()), delta.size))


def check(engines, ops, dtypes, seed: int, outputs: int, verbose: bool) -> int:
    """Prints a row for each operation, type and engine; returns the number of rows with differences that are not tolerated."""
    failures = 0
    for op in ops:
        for dtype in dtypes:
            for engine in engines:
                if is_absent(engine, op, dtype):
                    continue
                row = dict(outputs=0, different=0, largest=0, refused=0, reason="", cases=[])
                index = 0
                while row["outputs"] < outputs and (index == 0 or row["outputs"]):
                    rng = np.random.default_rng([seed, OPS.index(op), ("int8", "int16").index(dtype), index])
                    batch = [draw(rng, op, kind, dtype, index + i, engine, 4096) for i in range(12) for kind in KINDS]
                    index += 12
                    count(run(batch, engine), row)
                note = f"; {row['refused']} refused: {row['reason'][:110]}" if row["refused"] else ""
                print(f"{op:14} {dtype:5} {engine:10} {row['different']:6} of {row['outputs']:8} differ, "
                      f"largest {row['largest']}{note}", flush=True)
                for case in row["cases"][:8] if verbose else []:
                    print("    ", *case)
                allowed = TOLERATED.get((engine, op, dtype), 0) * row["outputs"]
                failures += row["different"] > allowed or row["largest"] > 1 or row["outputs"] == 0
    return failures


def golden_problems(engine: str, op: str, dtype: str, seed: int, turn: int) -> list:
    """Small problems of one operation; every image and tensor has a batch of one, as the runtime sees samples."""
    # The even indices have a batch of one; relu and relu6 keep their grid at odd ones.
    indices = {"relu": (1, 3, 5, 7), "relu6": (1, 3, 5, 7)}.get(op, (0, 4, 6, 2))
    if op in elementwise_problems.OPS and op not in ("mean", "add", "sub", "mul", "relu", "relu6"):
        indices = (0, 1, 2, 3)
    kinds = ("ties", "near-ties", "saturating", "random")[: 2 if op in movement.OPS else 4]
    rng = np.random.default_rng([seed, turn, OPS.index(op), ("int8", "int16").index(dtype)])
    batch = [draw(rng, op, kind, dtype, i + 8 * turn, engine, 128) for kind, i in zip(kinds, indices)]
    for p in batch:
        if p.op in ("avg_pool", "max_pool"):
            p.inputs = [(codes[:1], *params) for codes, *params in p.inputs]
    return batch


def write_goldens(engines, seed: int, folder: pathlib.Path, turns: int) -> int:
    """One file an engine; returns the number of cases in which formulas and engine differ."""
    versions = ", ".join(
        f"{name} {importlib.metadata.version(name)}" for name in ("onnxruntime", "onnx", "ai-edge-litert", "numpy")
    )
    failures = 0
    for engine in engines:
        cases = []
        for op in OPS:
            for dtype in ("int8", "int16"):
                # A split is slices, and a gather has no codes for an input.
                if is_absent(engine, op, dtype) or op in ("split", "gather") or (engine, op, dtype) in TOLERATED:
                    continue
                batch = [p for turn in range(turns) for p in golden_problems(engine, op, dtype, seed, turn)]
                for p, expected, found in run(batch, engine):
                    if isinstance(found, str):
                        raise SystemExit(f"{engine} {op} {p.name}: {found}")
                    failures += any((y != z.reshape(y.shape)).any() for y, z in zip(expected, found))
                    cases.append((p, found[0].reshape(expected[0].shape)))
        peer = f"{versions}, tflite-micro {tflm_version()}" if engine == "tflm" else versions
        elementwise_goldens.write(folder, engine, cases, peer, seed)
    return failures


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    compare = commands.add_parser("check", help="compare formulas and engines")
    compare.add_argument("--ops", nargs="+", choices=OPS, default=OPS)
    compare.add_argument("--dtypes", nargs="+", choices=["int8", "int16"], default=["int8", "int16"])
    compare.add_argument("--outputs", type=int, default=200_000, help="codes for each operation, type and engine")
    compare.add_argument("--seed", type=int, default=1)
    compare.add_argument("--verbose", action="store_true")
    goldens = commands.add_parser("goldens", help="write the golden files")
    goldens.add_argument("--seed", type=int, default=20261124)
    goldens.add_argument("--folder", type=pathlib.Path, default=elementwise_goldens.FOLDER)
    goldens.add_argument("--turns", type=int, default=1, help="as many times the cases of the committed files")
    for command in (compare, goldens):
        command.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    a = parser.parse_args()
    if a.command == "check":
        failures = check(a.engines, a.ops, a.dtypes, a.seed, a.outputs, a.verbose)
    else:
        failures = write_goldens(a.engines, a.seed, a.folder, a.turns)
    print(f"{failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
