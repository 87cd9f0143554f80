"""Weights of 4 and 2 bits, packed: which engine takes them in which operator, and by which rule."""

from . import conv, linear, transpose_conv
from .weighted import draw

# Transposed convolutions that add nothing to what their own family compares.
ONNX_ONLY = ("deep", "grouped", "dilated")

SUMMARY = "packed 4-bit and 2-bit weights, int8 activations"


def problems(rng, kind: str, batch: int, small: bool, bits=(4, 2), **options):
    for width in bits:
        for family in (conv, linear, transpose_conv):
            for p in family.problems(rng, kind, batch, small, bits=width, **options):
                # A linear layer without bias adds nothing here: the sum is the same.
                if p.bias is not None and not p.name.startswith(ONNX_ONLY):
                    p.name = f"int{width}-{p.op}-{p.name}"
                    yield p
        # Rows that do not fill their bytes keep XNNPACK away from a linear layer.
        for per_channel in (True, False):
            rows, d_in, d_out = (2, 9, 5) if small else (64, 33, 64)
            label = f"int{width}-odd-{'channel' if per_channel else 'tensor'}-{kind}"
            shapes = (rows, d_in), (d_out, d_in)
            yield draw(rng, kind, label, "linear", {}, *shapes, per_channel=per_channel, bits=width, **options)


def rule(engine: str, p) -> str | None:
    if engine.startswith("onnxruntime"):
        return onnxruntime(engine, p)
    if p.op == "transpose_conv2d" or p.bits == 2 and p.op != "linear":
        return None
    per_tensor = len(p.weight_scale) == 1
    if p.op == "linear":
        if engine == "tflm":
            return "gemmlowp" if p.bits == 4 and per_tensor else None
        if engine == "litert-ref":
            return "f64-half-away"
        taken = p.x.shape[1] % (8 // p.bits) == 0 and not (p.bits == 2 and per_tensor)
        return "fp32-rne" if taken else "half-up-mixed" if per_tensor else "half-up"
    if engine == "litert" and p.attributes["groups"][0] == 1:
        # Not XNNPACK but the built-in kernel; grouped and depthwise ones are its reference loops.
        return "half-up"
    return "gemmlowp"


def onnxruntime(engine: str, p) -> str | None:
    """4-bit weights are taken in QDQ graphs and computed in float; 2-bit weights give an invalid graph."""
    if engine == "onnxruntime-qop" or p.bits == 2 and p.op != "transpose_conv2d":
        return None
    return "~fp32-rne" if p.op == "linear" and p.x.shape[0] == 1 else "f32-sum"
