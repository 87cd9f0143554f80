"""One operation in a QDQ graph with uint8 codes (signed code + 128), run in ONNX Runtime's default session."""

import os
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from problem import Problem, f32

# Node of the optimized graph that computes the operation; an operation that is computed in float has its float node here.
EXPECTED = {
    "add": "QLinearAdd",
    "sub": "Sub",
    "mul": "QLinearMul",
    "mean": "ReduceMean",
    "relu": "Relu",
    "relu6": "Clip",
    "requantize": "QuantizeLinear",
    "sigmoid": "QLinearSigmoid",
    "tanh": "Tanh",
    "hard_swish": "HardSigmoid",
    "gelu": "Gelu",
    "leaky_relu": "QLinearLeakyRelu",
    "softmax": "QLinearSoftmax",
    "concat": "QLinearConcat",
    "pad": "Pad",
    "slice": "Slice",
    "split": "Split",
    "transpose": "Transpose",
    "reshape": "Reshape",
    "resize_nearest": "Resize",
    "gather": "Gather",
}


def unsigned(codes) -> np.ndarray:
    """int8 codes as uint8, same order."""
    return (codes.astype(np.int16) + 128).astype(np.uint8)


def build_model(p: Problem) -> onnx.ModelProto:
    """DequantizeLinear for each operand, the operation, QuantizeLinear."""
    nodes, constants, graph_inputs, operands = [], [], [], []
    a = p.attributes

    def constant(name, array):
        constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    for i, (codes, scale, zero_point) in enumerate(p.inputs):
        graph_inputs.append(helper.make_tensor_value_info(f"x{i}", TensorProto.UINT8, codes.shape))
        params = [constant(f"x{i}_scale", f32(scale)), constant(f"x{i}_zp", np.uint8(zero_point + 128))]
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
        sizes = [*p.inputs[0][0].shape[:1], *p.inputs[0][0].shape[1:2], *a["size"]]
        node("Resize", ["", "", int64("sizes", sizes)], mode="nearest", coordinate_transformation_mode="asymmetric",
             nearest_mode="floor")
    elif p.op == "gather":
        node("Gather", [int64("indices", a["indices"])], axis=a["axis"])
    last = "y_real" if p.op != "requantize" else operands[0]
    scale, zero_point = p.output
    params = [constant("y_scale", f32(scale)), constant("y_zp", np.uint8(zero_point + 128))]
    nodes.append(helper.make_node("QuantizeLinear", [last, *params], ["y"]))
    outputs = [helper.make_tensor_value_info("y", TensorProto.UINT8, None)]
    graph = helper.make_graph(nodes, "problem", graph_inputs, outputs, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def run_onnx(p: Problem):
    """`(output codes as int8, node kinds of the optimized graph)`."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
        session = ort.InferenceSession(build_model(p).SerializeToString(), options, providers=["CPUExecutionProvider"])
        kinds = {node.op_type for node in onnx.load(options.optimized_model_filepath).graph.node}
    codes = session.run(None, {f"x{i}": unsigned(x) for i, (x, _, _) in enumerate(p.inputs)})[0]
    return (codes.astype(np.int16) - 128).astype(np.int8), kinds
