"""What the parity matrix claims, cell by cell.

The claim is 0 codes different wherever a file exists. `NEAR` lists the cells where the runtime's own arithmetic is not known to the
last bit, each with the reason and a bound, which is judged like the zeros. `REFUSED` lists the cells for which there is no file,
since a format or a runtime has not got the operation: a cell that is empty for any other reason breaks the claims, and so does a listed
one that has numbers.
"""

import collections
import dataclasses
import fnmatch

# Engines in the order of the table: title, and the rules whose codes they must give.
ENGINES = {
    "onnx-qdq": "ONNX Runtime, QDQ",
    "onnx-qop": "ONNX Runtime, QOperator",
    "litert": "LiteRT",
    "litert-reference": "LiteRT reference",
    "tflite-micro": "TFLite-Micro",
    "c": "generated C",
    "rust": "generated Rust",
}


@dataclasses.dataclass(frozen=True)
class Near:
    """Cells whose codes may differ: patterns of engine, operation and width, and by how much."""

    engine: str
    op: str
    width: str
    largest: int
    # Of the codes of a cell.
    share: float
    reason: str
    # Only on machines without this instruction set.
    without: str | None = None


@dataclasses.dataclass(frozen=True)
class Absent:
    """Cells without a file: patterns of engine, operation and width."""

    engine: str
    op: str
    width: str
    reason: str
    # Whether some scales have a file, or may have one.
    partly: bool = False


ORDER = (
    "ONNX Runtime computes this in float, in an order of summation that is known for AVX-512 alone ((Q50) to (Q52)); another order may round "
    "the last bit of a sum the other way."
)
NEAR = [
    Near("onnx-qdq", "*", "16×8", 1, 0.01, ORDER, without="avx512f"),
    Near("onnx-q*", "conv_transpose2d*", "8×*", 1, 0.01, ORDER, without="avx512f"),
    Near(
        *("litert*", "gelu*", "16", 1, 0.001),
        "Its table of 513 points is made with the C library's f32 functions, which are not always the nearest number (Q35).",
    ),
]

TRANSPOSED = "TFLite's transposed convolution has neither groups nor dilation."
DILATED = "TFLite's pools have no dilation."
PADDED = "TFLite's pools leave padding out of the divisor for SAME padding alone."
GELU = "TFLite-Micro has no gelu, and generated code has TFLite-Micro's arithmetic."
HARD_SWISH = "No TFLite runtime has hard swish on int16 codes."
INTEGER_OPERATORS = "ONNX's integer operators take codes of 8 bits."
AVERAGE = "ONNX Runtime's average pool on int16 codes would be a float one, whose order of summation has no rule here."
SOFTMAX = "ONNX Runtime's softmax on int16 codes would be a float one, whose exponential has no rule here."
POWERS = "LiteRT has another kernel for input steps near some powers of two (Q34), which has no rule here."
REFUSED = [
    *(Absent(engine, "conv_transpose2d_groups", "*", TRANSPOSED) for engine in ("litert*", "tflite-micro", "c", "rust")),
    *(Absent(engine, "max_pool2d_dilated", "*", DILATED) for engine in ("litert*", "tflite-micro")),
    *(Absent(engine, "avg_pool2d_padded", "*", PADDED) for engine in ("litert*", "tflite-micro")),
    *(Absent(engine, "gelu*", "*", GELU) for engine in ("tflite-micro", "c", "rust")),
    *(Absent(engine, "hard_swish", "16", HARD_SWISH) for engine in ("litert*", "tflite-micro", "c", "rust")),
    Absent("onnx-qop", "*", "16*", INTEGER_OPERATORS),
    Absent("onnx-qop", "requantize_type", "8", INTEGER_OPERATORS),
    *(Absent("onnx-qdq", op, "16*", AVERAGE) for op in ("avg_pool2d*", "ResNet-8", "DS-CNN")),
    Absent("onnx-qdq", "softmax", "16", SOFTMAX),
    *(Absent("litert", op, "16*", POWERS, partly=True) for op in ("sigmoid", "tanh", "lstm_cell", "gru_cell")),
]


@dataclasses.dataclass
class Result:
    """One case in one engine."""

    case: dict
    engine: str
    compared: int = 0
    different: int = 0
    largest: int = 0
    # What the format or the rules say where there is no file.
    refused: str | None = None
    # What went wrong with a file.
    failed: str | None = None

    @property
    def row(self):
        return self.case["op"], self.case["granularity"], self.case["width"]


@dataclasses.dataclass
class Cell:
    """All kinds of scales of one row in one engine."""

    compared: int = 0
    different: int = 0
    largest: int = 0
    # By kind of scales, why there is no file, and what went wrong with one.
    refused: dict = dataclasses.field(default_factory=dict)
    failed: dict = dataclasses.field(default_factory=dict)

    def add(self, result):
        kind = result.case["kind"]
        if result.refused is not None:
            self.refused[kind] = result.refused
        elif result.failed is not None:
            self.failed[kind] = result.failed
        else:
            self.compared += result.compared
            self.different += result.different
            self.largest = max(self.largest, result.largest)


class Matrix:
    """Results by row and engine, and whether they are as claimed."""

    def __init__(self, results, flags):
        self.flags = flags
        self.rows = collections.defaultdict(dict)
        self.kinds = collections.defaultdict(Cell)
        self.engines = [engine for engine in ENGINES if any(result.engine == engine for result in results)]
        for result in results:
            self.rows[result.row].setdefault(result.engine, Cell()).add(result)
            self.kinds[result.engine, result.case["width"], result.case["kind"]].add(result)

    def near(self, row, engine):
        """The first exception for a cell, or none."""
        op, _, width = row
        for near in NEAR:
            applies = near.without is None or near.without not in self.flags
            if applies and all(map(fnmatch.fnmatchcase, (engine, op, width), (near.engine, near.op, near.width))):
                return near
        return None

    @staticmethod
    def absent(row, engine):
        """Why a cell may be without a file, or none."""
        op, _, width = row
        for absent in REFUSED:
            if all(map(fnmatch.fnmatchcase, (engine, op, width), (absent.engine, absent.op, absent.width))):
                return absent
        return None

    def broken(self):
        """Cells that are not as claimed, in words."""
        found = []
        for row, cells in self.rows.items():
            for engine, cell in cells.items():
                name = f"{' '.join(part for part in row if part)}, {ENGINES[engine]}"
                found += [f"{name}, {kind}: {reason}" for kind, reason in cell.failed.items()]
                absent = self.absent(row, engine)
                is_partial = absent is not None and absent.partly
                if is_partial and not cell.compared:
                    found.append(f"{name}: expected a file for some scales, found none")
                if not is_partial and bool(cell.refused) != bool(absent):
                    what = f"none, {cell.refused}" if cell.refused else "one"
                    found.append(f"{name}: expected {'no file' if absent else 'a file'}, found {what}")
                near = self.near(row, engine)
                largest, most = (near.largest, near.share * cell.compared) if near else (0, 0)
                if cell.largest > largest or cell.different > most:
                    found.append(
                        f"{name}: expected at most {int(most)} codes different by at most {largest}, "
                        f"found {cell.different} of {cell.compared} different by up to {cell.largest}"
                    )
        return found


def broken_answers(rows):
    """Networks whose answers in a runtime are not all those of the engine, or whose scores say nothing."""
    found = []
    for case, images, agreeing, between in rows:
        name = f"{case['op']} {case['width']} per {case['granularity']}"
        found += [
            f"{name}, {ENGINES[engine]}: expected the engine's answer for {images} images, found it for {count}"
            for engine, count in agreeing.items()
            if count != images
        ]
        found += [
            f"{name}, {rules}: expected scores that spread, found {distinct} distinct codes"
            for rules, (_, _, _, _, distinct) in between.items()
            if distinct < 50
        ]
    return found
