"""A `.tflite` file with one operation, written with the schema of the ai-edge-litert wheel."""

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from problem import Problem

TYPES = {"int8": schema.TensorType.INT8, "int16": schema.TensorType.INT16, "int32": schema.TensorType.INT32}

# Operation, builtin code, version for int8, version for int16.
OPERATORS = {
    "add": ("ADD", 2, 2),
    "sub": ("SUB", 3, 5),
    "mul": ("MUL", 2, 4),
    "avg_pool": ("AVERAGE_POOL_2D", 2, 3),
    "max_pool": ("MAX_POOL_2D", 2, 3),
    "mean": ("MEAN", 2, 3),
    "relu": ("RELU", 2, 3),
    "relu6": ("RELU6", 2, 3),
    "requantize": ("QUANTIZE", 2, 3),
    "sigmoid": ("LOGISTIC", 2, 3),
    "tanh": ("TANH", 2, 3),
    "hard_swish": ("HARD_SWISH", 1, 1),
    "gelu": ("GELU", 1, 2),
    "leaky_relu": ("LEAKY_RELU", 2, 2),
    "softmax": ("SOFTMAX", 2, 3),
    "concat": ("CONCATENATION", 2, 3),
    "pad": ("PAD", 2, 3),
    "slice": ("SLICE", 2, 4),
    "split": ("SPLIT", 2, 4),
    "transpose": ("TRANSPOSE", 2, 4),
    "reshape": ("RESHAPE", 1, 1),
    "resize_nearest": ("RESIZE_NEAREST_NEIGHBOR", 2, 4),
    "gather": ("GATHER", 2, 4),
}


def options(p: Problem):
    """`(table of the operation's options, its type)`; `(None, 0)` where it has none."""
    a, kinds = p.attributes, schema.BuiltinOptions
    if p.op in ("add", "sub"):
        table = schema.AddOptionsT() if p.op == "add" else schema.SubOptionsT()
        # Scales that are powers of two take the general path too.
        table.potScaleInt16 = False
        return table, kinds.AddOptions if p.op == "add" else kinds.SubOptions
    if p.op == "mul":
        return schema.MulOptionsT(), kinds.MulOptions
    if p.op in ("avg_pool", "max_pool"):
        table = schema.Pool2DOptionsT()
        table.padding = {"same": schema.Padding.SAME, "valid": schema.Padding.VALID}[a["padding"]]
        (table.filterHeight, table.filterWidth), (table.strideH, table.strideW) = a["kernel"], a["stride"]
        return table, kinds.Pool2DOptions
    if p.op == "mean":
        table = schema.ReducerOptionsT()
        table.keepDims = a["keep_dims"]
        return table, kinds.ReducerOptions
    if p.op == "leaky_relu":
        table = schema.LeakyReluOptionsT()
        table.alpha = float(a["alpha"])
        return table, kinds.LeakyReluOptions
    if p.op == "gelu":
        table = schema.GeluOptionsT()
        table.approximate = a["approximate"]
        return table, kinds.GeluOptions
    if p.op == "softmax":
        table = schema.SoftmaxOptionsT()
        table.beta = 1.0
        return table, kinds.SoftmaxOptions
    if p.op == "concat":
        table = schema.ConcatenationOptionsT()
        table.axis = a["axis"]
        return table, kinds.ConcatenationOptions
    if p.op == "split":
        table = schema.SplitOptionsT()
        table.numSplits = a["parts"]
        return table, kinds.SplitOptions
    if p.op == "resize_nearest":
        table = schema.ResizeNearestNeighborOptionsT()
        table.alignCorners, table.halfPixelCenters = a["align_corners"], a["half_pixel"]
        return table, kinds.ResizeNearestNeighborOptions
    if p.op == "gather":
        table = schema.GatherOptionsT()
        table.axis = a["axis"]
        return table, kinds.GatherOptions
    return None, 0


def constant_operands(p: Problem) -> list:
    """int32 arrays that follow the quantized operands."""
    a = p.attributes
    return {
        "mean": lambda: [a["axes"]],
        "pad": lambda: [a["padding"]],
        "slice": lambda: [a["begin"], a["size"]],
        "transpose": lambda: [a["permutation"]],
        "reshape": lambda: [a["shape"]],
        "resize_nearest": lambda: [a["size"]],
        "gather": lambda: [a["indices"]],
        "split": lambda: [a["axis"]],
    }.get(p.op, lambda: [])()


def write_model(p: Problem, output_shapes: list) -> bytes:
    """The file; `output_shapes` has one shape for each output."""
    model = schema.ModelT()
    model.version, model.description = 3, b"one operation"
    model.buffers = [schema.BufferT()]
    model.buffers[0].data = None
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs = [], [], []

    def tensor(name, shape, dtype, scale=None, zero_point=0, data=None):
        buffer = schema.BufferT()
        buffer.data = None if data is None else np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        model.buffers.append(buffer)
        entry = schema.TensorT()
        entry.name, entry.shape, entry.type, entry.buffer = name, list(shape), TYPES[dtype], len(model.buffers) - 1
        if scale is not None:
            entry.quantization = schema.QuantizationParametersT()
            entry.quantization.scale, entry.quantization.zeroPoint = [float(scale)], [int(zero_point)]
        graph.tensors.append(entry)
        return len(graph.tensors) - 1

    operands = [tensor(f"x{i}", x.shape, p.dtype, s, z) for i, (x, s, z) in enumerate(p.inputs)]
    graph.inputs = list(operands)
    for i, values in enumerate(constant_operands(p)):
        values = np.asarray(values, np.int32)
        operands.append(tensor(f"c{i}", values.shape, "int32", data=values))
    if p.op == "split":
        operands = operands[::-1]
    graph.outputs = [tensor(f"y{i}", shape, p.output_dtype, *p.output) for i, shape in enumerate(output_shapes)]
    kind, version, version16 = OPERATORS[p.op]
    code = schema.OperatorCodeT()
    code.builtinCode = getattr(schema.BuiltinOperator, kind)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    code.version = version16 if p.dtype == "int16" else version
    model.operatorCodes = [code]
    operator = schema.OperatorT()
    operator.opcodeIndex, operator.inputs, operator.outputs = 0, operands, graph.outputs
    operator.builtinOptions, operator.builtinOptionsType = options(p)
    graph.operators = [operator]
    model.subgraphs = [graph]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
