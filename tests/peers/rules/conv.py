"""Convolution, 8-bit: plain, strided, padded on one side, dilated, grouped, depthwise, pointwise, 1-D; both granularities."""

from .weighted import draw

SUMMARY = "convolution 1-D and 2-D, int8 activations, int8 weights"


def attributes(kernel, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), groups=1) -> dict:
    return dict(kernel=list(kernel), stride=list(stride), padding=list(padding), dilation=list(dilation), groups=[groups])


def variants(small: bool):
    """(name, op, c_in, c_out, h, w, attributes)."""
    h, w = (8, 7) if small else (24, 21)
    a = attributes
    return [
        ("plain", "conv2d", 3, 4, h, w, a((3, 3))),
        ("stride2", "conv2d", 2, 5, h, w, a((3, 3), (2, 2), (1, 1, 1, 1))),
        ("asymmetric", "conv2d", 3, 3, h, w, a((3, 2), (1, 2), (0, 1, 2, 0))),
        ("dilation", "conv2d", 2, 4, h, w, a((3, 3), (1, 1), (2, 2, 2, 2), (2, 2))),
        ("groups", "conv2d", 4, 6, h, w, a((3, 3), (1, 1), (1, 1, 1, 1), groups=2)),
        ("depthwise", "conv2d", 5, 5, h, w, a((3, 3), (1, 1), (1, 1, 1, 1), groups=5)),
        ("depthwise-x2", "conv2d", 3, 6, h, w, a((3, 3), (2, 2), (1, 1, 1, 1), groups=3)),
        ("pointwise", "conv2d", 6, 8, h, w, a((1, 1))),
        ("conv1d", "conv1d", 3, 4, 1, 6 * w, a((1, 5), (1, 2), (0, 2, 0, 1), (1, 2))),
    ]


def problems(rng, kind: str, batch: int, small: bool, **options):
    for name, op, c_in, c_out, h, w, a in variants(small):
        for per_channel in (True, False):
            relu = bool(rng.integers(0, 2))
            w_shape = (c_out, c_in // a["groups"][0], *a["kernel"])
            label = f"{name}-{'channel' if per_channel else 'tensor'}-{kind}"
            yield draw(
                rng, kind, label, op, a, (batch, c_in, h, w), w_shape, per_channel=per_channel, relu=relu, **options
            )


RULES = {
    "onnxruntime": "fp32-rne",
    "onnxruntime-qop": "fp32-rne",
    "litert": "fp32-rne",
    "litert-ref": "gemmlowp",
    "tflm": "gemmlowp",
}


def rule(engine: str, p) -> str:
    return RULES[engine]
