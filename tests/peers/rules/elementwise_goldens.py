"""Golden files of `crates/runtime/tests/goldens/elementwise_*.txt`: what each engine computed, one file an engine.

A case is one node. Shapes are those of a sample, channels first; arrays are little-endian bytes in hexadecimal.
"""

import pathlib
import sys

import numpy as np

from problem import Problem, f32

FOLDER = pathlib.Path(__file__).resolve().parents[3] / "crates" / "runtime" / "tests" / "goldens"
FILES = {"onnx": "onnx_runtime", "litert": "litert", "litert-ref": "litert_reference", "tflm": "tflite_micro"}


def hexes(array) -> str:
    """Little-endian bytes in hexadecimal."""
    array = np.ascontiguousarray(array)
    return array.astype(array.dtype.newbyteorder("<")).tobytes().hex()


def is_image(p: Problem) -> bool:
    """Whether the operation knows height and width, so that its tensors turn from `[N, H, W, C]` to `[C, H, W]`."""
    return p.op in ("avg_pool", "max_pool", "resize_nearest")


def sample(p: Problem, codes) -> np.ndarray:
    """The one sample of a batch of one; tensors of functions have no batch dimension to lose."""
    if is_image(p):
        return codes[0].transpose(2, 0, 1)
    return codes[0] if p.inputs[0][0].ndim == 4 else codes


def attributes(p: Problem) -> list:
    """Lines of the attributes, as the runtime's operations have them."""
    a = p.attributes
    if p.op in ("avg_pool", "max_pool"):
        pads = [0, 0, 0, 0]
        if a["padding"] == "same":
            for i in range(2):
                size, kernel, stride = p.inputs[0][0].shape[1 + i], a["kernel"][i], a["stride"][i]
                total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
                pads[i], pads[2 + i] = total // 2, total - total // 2
        return [("kernel", a["kernel"]), ("stride", a["stride"]), ("padding", pads)]
    if p.op == "mean":
        return [("axes", [axis - 1 for axis in a["axes"]]), ("keep_dims", [int(a["keep_dims"])])]
    if p.op == "gelu":
        return [("approximate", [int(a["approximate"])])]
    if p.op == "leaky_relu":
        return [("alpha", [hexes(f32(a["alpha"]))])]
    if p.op == "concat":
        return [("axis", [a["axis"] - 1])]
    if p.op == "pad":
        return [("before", [b for b, _ in a["padding"][1:]]), ("after", [e for _, e in a["padding"][1:]])]
    if p.op == "slice":
        return [("begin", a["begin"][1:]), ("size", a["size"][1:])]
    if p.op == "transpose":
        return [("permutation", [axis - 1 for axis in a["permutation"][1:]])]
    if p.op == "resize_nearest":
        return [("factor", a["factor"])]
    return []


def tensor(p: Problem, codes, scale, zero_point) -> str:
    """`TYPE scale zero_point dimensions : codes`; a scale is four bytes."""
    codes = sample(p, codes)
    return f"{codes.dtype} {hexes(f32(scale))} {zero_point} {' '.join(map(str, codes.shape))} : {hexes(codes)}"


def write(folder: pathlib.Path, engine: str, cases: list, versions: str, seed: int):
    """`cases` are `(problem, the engine's output codes)`."""
    lines = [
        f"# Output codes of {engine} for element-wise operations, pools, means, functions and movement, one node a case.",
        f"# Written by tests/peers/rules/elementwise.py with {versions}; seed {seed}.",
        f"# Command: {' '.join(['python', 'tests/peers/rules/elementwise.py', *sys.argv[1:]])}",
        "# Tensors: code type, scale (f32 bytes), zero point, dimensions of a sample, a colon, the codes in hexadecimal.",
    ]
    for p, y in cases:
        lines.append(f"case {p.op} {p.name}")
        lines += [f"{key} {' '.join(map(str, values))}" for key, values in attributes(p)]
        lines += [f"input {tensor(p, *operand)}" for operand in p.inputs]
        lines.append(f"output {tensor(p, y, *p.output)}")
    path = folder / f"elementwise_{FILES[engine]}.txt"
    path.write_text("\n".join(lines) + "\n")
    print(f"{path.name}: {len(cases)} cases, {path.stat().st_size} bytes")
