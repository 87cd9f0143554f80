"""Writes the parity matrix as a document."""

from parity_claims import ENGINES, NEAR

# Operations of the matrix in words.
TITLES = {
    "conv2d": "convolution, 2 groups, strided, dilated, uneven padding",
    "conv2d_depthwise": "depthwise convolution",
    "conv2d_pointwise": "convolution of 1 by 1",
    "conv1d": "convolution in one dimension, strided, dilated, uneven padding",
    "conv_transpose2d": "transposed convolution, strided, uneven padding",
    "conv_transpose2d_groups": "transposed convolution, 2 groups, dilated",
    "linear": "linear",
    "linear_rows": "linear on rows",
    "linear_planes": "linear on planes of rows",
    "lstm_cell": "LSTM cell by its parts",
    "gru_cell": "GRU cell by its parts",
    "mat_mul": "product of activations",
    "mat_mul_transposed": "batched product of activations, transposed",
    "add": "add",
    "sub": "sub",
    "mul": "mul",
    "mul_channel": "mul by a constant for each channel, clamped",
    "concat": "concat",
    "max_pool2d": "max pool, uneven padding",
    "max_pool2d_dilated": "max pool, dilated",
    "avg_pool2d": "average pool",
    "avg_pool2d_padded": "average pool, padding not counted",
    "avg_pool2d_padding_counted": "average pool, padding counted",
    "avg_pool2d_global": "average pool of the whole image (adaptive to 1 by 1)",
    "mean": "mean over an image",
    "mean_keep_dims": "mean over the last axis",
    "mean_of_all": "mean over all axes",
    "relu": "relu by itself",
    "relu6": "relu6 by itself",
    "clamp": "clamp by itself",
    "sigmoid": "sigmoid",
    "tanh": "tanh",
    "hard_swish": "hard swish",
    "gelu": "gelu",
    "gelu_tanh": "gelu by tanh",
    "leaky_relu": "leaky relu",
    "softmax": "softmax",
    "requantize": "another grid",
    "requantize_type": "another width (8 to 16, 16 to 8)",
    "reshape": "reshape",
    "transpose": "transpose",
    "pad": "pad",
    "slice": "slice with steps",
    "split": "split",
    "resize_nearest": "nearest-neighbour resize",
    "constant": "add of a constant",
    "constant_alone": "concat with a constant",
    "gather": "gather (embedding)",
}

INTRODUCTION = """\
# The parity matrix

Every operation of the integer engine and four whole networks, written in every format that can hold them, run by the runtimes
that read them, and compared with the engine code for code. This file is made by one command, which fails where a claim below does
not hold; continuous integration runs it with fewer outputs (`.ci/run matrix`).

| | |
| --- | --- |
"""

READING = """
## How to read it

A cell is **codes compared / codes different / largest difference** in steps of the last place. A dash is a file that does not
exist, for the reason in the note of that number. Claims are about codes: each runtime is given the very codes that the engine is
given, and all that it answers is compared.

* A row is an operation, the granularity of its weights and the widths of activations and weights: 8×4 is int8 activations by 4-bit
  weights, 16×8 int16 activations by int8 weights. Operations without weights have the width of their activations.
* Each cell joins three kinds of scales, a third of the outputs each: *random* ones, for which outputs spread over their codes;
  *ties*, powers of two, for which many results lie midway between two codes; *saturating*, for which most results lie outside of
  the codes. The first inputs are all lowest, all highest and all zero; the others are uniform codes. In the table of kinds, they are
  apart.
* A column is a runtime, and the expected codes are those of the engine under that runtime's rules: ONNX Runtime's for the first two,
  LiteRT's, LiteRT reference's, and TFLite-Micro's for the last three. The rules differ, which is why
  [quantization.md](quantization.md) has more than one for an operation; the model is one and the same up to them.
* *ONNX Runtime, QDQ* is the default session on a file with uint8 activations, and its optimised graph is inspected: a convolution, linear
  layer, sum, product or pool of 8 bits that it left in float would be an error. *QOperator* is the file of integer operators. *LiteRT* is the default
  session, with XNNPACK; *LiteRT reference* has the kernels of `BUILTIN_REF`. Generated C and Rust are compiled here and run.
* Weights of 4 and 2 bits stand in a file as the runtime's integer kernels take them, as int8 where it has none for the width
  (`Rules::weight_storage`).

## What is claimed, and what is not

**0 codes different in every cell that has a file**, except those of the following table. It is the claim of the machine and the versions
named above; ONNX Runtime's sums of reals in particular follow the order that its kernels for AVX-512 have.

"""

OUTSIDE = """
Not claimed: other versions of the runtimes; ONNX Runtime with several threads where it computes in float; LiteRT with other delegates;
files with packed INT4 weights in ONNX Runtime, which computes those layers in float (near, see the tests of the ONNX writer); numbers
inside a network other than its output, which follow from the operations' rows.
"""


def summary(matrix):
    """A line for each engine and width."""
    widths = list(dict.fromkeys(width for _, _, width in matrix.rows))
    lines = []
    for engine in matrix.engines:
        for width in widths:
            cells = [cells[engine] for (_, _, w), cells in matrix.rows.items() if w == width and engine in cells]
            compared, different = sum(cell.compared for cell in cells), sum(cell.different for cell in cells)
            largest = max((cell.largest for cell in cells), default=0)
            lines.append(f"{ENGINES[engine]}, {width}: {compared} compared, {different} different, at most {largest} LSB")
    return lines


class Notes:
    """Why there is no file, numbered in order of appearance."""

    def __init__(self):
        self.numbers = {}

    def number(self, reason, message):
        return self.numbers.setdefault(reason, (len(self.numbers) + 1, message))[0]

    def lines(self):
        for reason, (number, message) in self.numbers.items():
            yield f"{number}. {reason} The program says: `{message.replace('`', chr(39))}`."


def text_of(matrix, row, engine, notes):
    """A cell's text."""
    cell = matrix.rows[row].get(engine)
    if cell is None:
        return "not run"
    if cell.failed:
        return "**failed**"
    mark = ""
    if cell.refused:
        absent = matrix.absent(row, engine)
        message = next(iter(cell.refused.values()))
        mark = f"[{notes.number(absent.reason if absent else 'Not listed among the reasons.', message)}]"
    if not cell.compared:
        return f"– {mark}"
    numbers = f"{cell.compared:,} / {cell.different:,} / {cell.largest}"
    return f"{numbers} {mark}".rstrip()


def table(header, rows):
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    return lines + ["| " + " | ".join(row) + " |" for row in rows]


def document(facts, matrix, net_matrix, net_rows, engines):
    """The whole file. `engines` are the columns; those that were not run say so."""
    notes = Notes()
    lines = [INTRODUCTION.rstrip("\n")]
    lines += [f"| {name} | {text} |" for name, text in facts.items()]
    lines.append(READING.rstrip("\n"))
    lines.append("")
    near = [
        [ENGINES.get(n.engine, n.engine), n.op, n.width, f"{n.share:.2%}", str(n.largest), n.reason] for n in NEAR
    ]
    lines += table(["runtime", "operation", "width", "at most, of the codes", "LSB", "why"], near)
    lines.append(OUTSIDE.rstrip("\n"))

    titles = [ENGINES[engine] for engine in engines]
    lines += ["", "## By kind of scales", ""]
    kinds = list(dict.fromkeys(kind for _, _, kind in matrix.kinds))
    rows = []
    for engine in engines:
        texts = []
        for kind in kinds:
            cells = [cell for (e, _, k), cell in matrix.kinds.items() if (e, k) == (engine, kind)]
            compared, different = sum(cell.compared for cell in cells), sum(cell.different for cell in cells)
            texts.append(f"{compared:,} / {different:,} / {max((cell.largest for cell in cells), default=0)}" if compared else "not run")
        rows.append([ENGINES[engine], *texts])
    lines += table(["runtime", *kinds], rows)

    weighted = [row for row in matrix.rows if row[1]]
    others = [row for row in matrix.rows if not row[1]]
    order = list(TITLES)
    lines += ["", "## Operations with weights", ""]
    weighted.sort(key=lambda row: order.index(row[0]))
    lines += table(
        ["operation", "weights", "width", *titles],
        [[TITLES[op], f"per {g}", w, *(text_of(matrix, (op, g, w), e, notes) for e in engines)] for op, g, w in weighted],
    )
    lines += ["", "## Operations without weights", ""]
    others.sort(key=lambda row: order.index(row[0]))
    lines += table(
        ["operation", "width", *titles],
        [[TITLES[op], w, *(text_of(matrix, (op, g, w), e, notes) for e in engines)] for op, g, w in others],
    )
    if net_matrix:
        lines += networks(net_matrix, net_rows, engines, titles, notes)
    lines += ["", "## Notes", "", *notes.lines(), ""]
    return "\n".join(lines)


def networks(matrix, rows, engines, titles, notes):
    images = max((images for _, images, _, _ in rows), default=0)
    lines = [
        "",
        "## Whole networks",
        "",
        f"Each network is trained for a moment, calibrated, converted for each target and run on the first {images:,} test images of MNIST, or",
        "of the lossless CIFAR-10 records (ResNet-8); all ten scores of each image are compared. Within a contract the answer, that is the",
        "place of the highest score, is the same for every image: that is asserted too, and follows from equal codes.",
        "",
    ]
    lines += table(
        ["network", "weights", "width", *titles],
        [[op, f"per {g}", w, *(text_of(matrix, (op, g, w), e, notes) for e in engines)] for op, g, w in matrix.rows],
    )
    lines += [
        "",
        "Between contracts codes differ, since roundings do. For each set of rules: images answered rightly, images answered as under ONNX",
        "Runtime's rules, and output codes other than under these, with the largest difference. Nothing is claimed of these numbers; they",
        "say what to expect of one network on another runtime, and that accuracy is not at stake. The networks are hardly trained.",
        "",
    ]
    body = []
    for case, images, _, between in rows:
        for rules, (right, agreeing, different, largest, _) in between.items():
            agreement = "–" if agreeing is None else f"{agreeing / images:.1%}"
            codes = "–" if different is None else f"{different:,} of {images * 10:,}, at most {largest}"
            body.append(
                [case["op"], f"{case['width']} per {case['granularity']}", rules, f"{right / images:.1%}", agreement, codes]
            )
    return lines + table(["network", "scheme", "rules", "right", "as ONNX Runtime's", "codes other than these"], body)
