"""Transposed convolution 2-D, 8-bit; `padding` is what is cut from the full result, `same` TFLite's padding mode."""

from .weighted import draw

SUMMARY = "transposed convolution 2-D, int8 activations, int8 weights"


def attributes(kernel, stride, same=0, padding=(0, 0, 0, 0), output_padding=(0, 0), dilation=(1, 1), groups=1) -> dict:
    found = dict(kernel=list(kernel), stride=list(stride), padding=list(padding), output_padding=list(output_padding))
    return found | dict(same=[same], groups=[groups], dilation=list(dilation))


def variants(small: bool):
    """(name, c_in, c_out, h, w, attributes)."""
    h, w = (4, 3) if small else (12, 11)
    a = attributes
    return [
        ("valid-k3-s2", 3, 4, h, w, a((3, 3), (2, 2))),
        ("same-k3-s2", 4, 3, h, w, a((3, 3), (2, 2), 1, (0, 0, 1, 1))),
        ("same-k4-s2", 2, 5, h, w, a((4, 4), (2, 2), 1, (1, 1, 1, 1))),
        ("same-k3-s1", 3, 3, h, w, a((3, 3), (1, 1), 1, (1, 1, 1, 1))),
        ("valid-k2-s3", 3, 2, h, w, a((2, 2), (3, 3), output_padding=(1, 1))),
        ("grouped", 4, 6, h, w, a((3, 3), (2, 2), groups=2)),
        ("dilated", 2, 3, h, w, a((3, 2), (2, 1), 0, (1, 0, 2, 1), (1, 0), (2, 3))),
        ("deep", 150, 2, 4, 3, a((2, 2), (2, 2))),
    ]


def problems(rng, kind: str, batch: int, small: bool, **options):
    for name, c_in, c_out, h, w, a in variants(small):
        if small and name == "deep":
            continue
        for per_channel in (True, False):
            relu = bool(rng.integers(0, 2))
            label = f"{name}-{'channel' if per_channel else 'tensor'}-{kind}"
            if name == "grouped" and per_channel:
                # An axis of ONNX's weights is one group's channels, so all groups would share their steps.
                continue
            shapes = (batch, c_in, h, w), (c_in, c_out // a["groups"][0], *a["kernel"])
            yield draw(rng, kind, label, "transpose_conv2d", a, *shapes, per_channel=per_channel, relu=relu, **options)


def is_onnx_only(p) -> bool:
    """TFLite has neither groups nor dilation here."""
    return p.attributes["groups"] != [1] or p.attributes["dilation"] != [1, 1]


def rule(engine: str, p) -> str | None:
    if is_onnx_only(p) and engine != "onnxruntime":
        return None
    rules = {"onnxruntime": "f32-sum", "litert": "fp32-rne", "litert-ref": "gemmlowp", "tflm": "gemmlowp"}
    return rules.get(engine)
