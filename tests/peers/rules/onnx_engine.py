"""One operation in a QDQ graph with uint8 codes (signed code + 128) or int16 codes, run in ONNX Runtime's default session."""

import os
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from problem import Problem, f32

# The node of the optimized graph that computes a fused operation; others are computed in float or only move codes.
FUSED = {
    "add": "QLinearAdd",
    "mul": "QLinearMul",
    "sigmoid": "QLinearSigmoid",
    "leaky_relu": "QLinearLeakyRelu",
    "softmax": "QLinearSoftmax",
    "concat": "QLinearConcat",
}


# Tensor type, zero point and codes of a graph by the type of the codes.
TYPES = {"int8": TensorProto.UINT8, "int16": TensorProto.INT16}


def graph_zero(zero_point: int, dtype: str):
    """A zero point as the graph has it."""
    return np.uint8(zero_point + 128) if dtype == "int8" else np.int16(zero_point)


def graph_codes(codes) -> np.ndarray:
    """int8 codes as uint8, same order; int16 codes as they are."""
    return (codes.astype(np.int16) + 128).astype(np.uint8) if codes.dtype == np.int8 else codes


def own_codes(codes) -> np.ndarray:
    """The inverse of `graph_codes`."""
    return (codes.astype(np.int16) - 128).astype(np.int8) if codes.dtype == np.uint8 else codes


def build_model(p: Problem) -> onnx.ModelProto:
    """DequantizeLinear for each operand, the operation, QuantizeLinear."""
    nodes, constants, graph_inputs, operands = [], [], [], []
    a = p.attributes

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    for i, (codes, scale, zero_point) in enumerate(p.inputs):
        graph_inputs.append(helper.make_tensor_value_info(f"x{i}", TYPES[p.dtype], codes.shape))
        params = [constant(f"x{i}_scale", f32(scale)), constant(f"x{i}_zp", graph_zero(zero_point, p.dtype))]
        nodes.append(helper.make_node("DequantizeLinear", [f"x{i}", *params], [f"x{i}_real"]))
        operands.append(f"x{i}_real")

    def node(kind, extra=(), **attributes):
        nodes.append(helper.make_node(kind, [*operands, *extra], ["y_real"], **attributes))

    int64 = lambda name, values: constant(name, np.asarray(values, np.int64))
    if p.op in ("add", "sub", "mul"):
        node(p.op.capitalize())
    elif p.op == "mean":
        node("ReduceMean", [int64("axes", a["axes"])], keepdims=int(a["keep_dims"]))
    elif p.op == "relu":
        node("Relu")
    elif p.op == "relu6":
        node("Clip", [constant("low", f32(0)), constant("high", f32(6))])
    elif p.op == "sigmoid":
        node("Sigmoid")
    elif p.op == "tanh":
        node("Tanh")
    elif p.op == "hard_swish":
        node("HardSwish")
    elif p.op == "gelu":
        node("Gelu", approximate="tanh" if a["approximate"] else "none")
    elif p.op == "leaky_relu":
        node("LeakyRelu", alpha=float(a["alpha"]))
    elif p.op == "softmax":
        node("Softmax", axis=-1)
    elif p.op == "concat":
        node("Concat", axis=a["axis"])
    elif p.op == "pad":
        padding = np.asarray(a["padding"]).T.reshape(-1)
        node("Pad", [int64("pads", padding), constant("fill", f32(0))])
    elif p.op == "slice":
        begin, size = np.asarray(a["begin"]), np.asarray(a["size"])
        node("Slice", [int64("starts", begin), int64("ends", begin + size)])
    elif p.op == "transpose":
        node("Transpose", perm=list(a["permutation"]))
    elif p.op == "reshape":
        node("Reshape", [int64("shape", a["shape"])])
    elif p.op == "resize_nearest":
        shape = p.inputs[0][0].shape
        sizes = [shape[0], *a["size"], shape[3]]
        node("Resize", ["", "", int64("sizes", sizes)], mode="nearest", coordinate_transformation_mode="asymmetric",
             nearest_mode="floor")
    elif p.op == "split":
        parts = [f"y_real{i}" for i in range(a["parts"])]
        nodes.append(helper.make_node("Split", operands, parts, axis=a["axis"], num_outputs=a["parts"]))
    elif p.op == "gather":
        node("Gather", [int64("indices", a["indices"])], axis=a["axis"])
    scale, zero_point = p.output
    params = [constant("y_scale", f32(scale)), constant("y_zp", graph_zero(zero_point, p.output_dtype))]
    reals = {"split": [f"y_real{i}" for i in range(a.get("parts", 0))], "requantize": operands}.get(p.op, ["y_real"])
    names = [f"y{i}" for i in range(len(reals))]
    nodes += [helper.make_node("QuantizeLinear", [real, *params], [name]) for real, name in zip(reals, names)]
    outputs = [helper.make_tensor_value_info(name, TYPES[p.output_dtype], None) for name in names]
    graph = helper.make_graph(nodes, "problem", graph_inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def run_onnx(p: Problem) -> list:
    """Output codes, signed, one array for each output; raises where an operation that fuses did not."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
        session = ort.InferenceSession(build_model(p).SerializeToString(), options, providers=["CPUExecutionProvider"])
        kinds = {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}
    if p.dtype == "int8" and FUSED.get(p.op) not in kinds | {None}:
        raise SystemExit(f"{p.op} {p.name}: expected {FUSED[p.op]} in the optimized graph, found {sorted(kinds)}")
    outputs = session.run(None, {f"x{i}": graph_codes(x) for i, (x, _, _) in enumerate(p.inputs)})
    return [own_codes(codes) for codes in outputs]
