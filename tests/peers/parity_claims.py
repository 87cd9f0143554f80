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


NEAR = []
REFUSED = []


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
    # Kind of scales to reason.
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

    def broken(self):
        """Cells that are not as claimed, in words."""
        found = []
        for row, cells in self.rows.items():
            for engine, cell in cells.items():
                name = f"{' '.join(part for part in row if part)}, {ENGINES[engine]}"
                found += [f"{name}, {kind}: {reason}" for kind, reason in cell.failed.items()]
                expected = any(
                    all(map(fnmatch.fnmatchcase, (engine, row[0], row[2]), pattern[:3])) for pattern in REFUSED
                )
                if bool(cell.refused) != expected:
                    what = f"no file, {cell.refused}" if cell.refused else "a file"
                    found.append(f"{name}: expected {'no file' if expected else 'a file'}, found {what}")
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
