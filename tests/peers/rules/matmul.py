"""Batch matmul of two activations, 8-bit, each with a zero point of its own."""

from .weighted import draw_matmul

SUMMARY = "batch matmul of two int8 activations"


def problems(rng, kind: str, batch: int, small: bool):
    little = ((2, 3, 9), (2, 9, 4)), ((1, 5, 6), (1, 6, 7))
    large = ((4, 20, 33), (4, 33, 24)), ((batch, 49, 64), (batch, 64, 49))
    for a, b in little if small else large:
        for second_zero in (False, True):
            p = draw_matmul(rng, kind, f"{'x'.join(map(str, (*a, b[-1])))}-{'zero' if second_zero else 'any'}-{kind}", a, b)
            p.weight_zero = 0 if second_zero else p.weight_zero
            yield p


def rule(engine: str, p) -> str:
    if engine == "litert":
        # XNNPACK takes no second operand with a zero point; the built-in kernel runs instead.
        return "fp32-rne" if p.weight_zero == 0 else "gemmlowp-mixed"
    rules = {"onnxruntime": "fp32-rne", "onnxruntime-qop": "fp32-rne", "litert-ref": "gemmlowp-mixed", "tflm": "gemmlowp"}
    return rules[engine]
