"""int16 activations with int8 weights and int64 bias: the same operators as in 8 bits, and batch matmul of int16 by int16."""

from . import conv, linear, transpose_conv
from .weighted import draw_matmul

# Variants that are drawn with packed weights too.
NARROW = {4: ("plain", "groups", "3x8", "128x120", "valid-k3"), 2: ("3x8", "128x120", "valid-k3")}

# Transposed convolutions that add nothing to what their own family compares.
ONNX_ONLY = ("deep", "grouped", "dilated")

SUMMARY = "int16 activations, int8 (and packed) weights, int64 bias"


def problems(rng, kind: str, batch: int, small: bool):
    for bits in (8, 4, 2):
        for family in (conv, linear, transpose_conv):
            for p in family.problems(rng, kind, batch, small, wide=True, bits=bits):
                # The sums of narrow weights differ from the others in size only. Depthwise ones, and convolutions of 2
                # bits, are left out: LiteRT takes some and reads the packed bytes as int8 codes.
                if p.bias is None or p.name.startswith(ONNX_ONLY) or bits < 8 and not p.name.startswith(NARROW[bits]):
                    continue
                p.name = f"int{bits}-{p.op}-{p.name}"
                yield p
    for rows, terms, columns in ((3, 9, 4), (1, 11, 5)) if small else ((40, 300, 24), (1, 77, 2000)):
        shapes = (2, rows, terms), (2, terms, columns)
        yield draw_matmul(rng, kind, f"matmul-{rows}x{terms}x{columns}-{kind}", *shapes, wide=True, weight_wide=True)


def rule(engine: str, p) -> str | None:
    if engine == "onnxruntime-qop":
        return None
    if engine == "onnxruntime":
        return "~fp32-rne" if p.op == "linear" and p.x.shape[0] == 1 else "f32-sum"
    if p.bits < 8 and (engine == "tflm" or p.op == "transpose_conv2d" or p.bits == 2 and p.op != "linear"):
        return None
    return "f64-half-away" if p.op == "linear" and engine != "tflm" else "gemmlowp64"
