"""Fails if ONNX Runtime leaves a layer of a quantized ONNX file in float.

    python check_fusion.py MODEL.onnx [--int8-allowed]

Optimises the file as a default session does (ORT_ENABLE_ALL) and lists the operators of the result. Exit code 1, with the nodes
listed, if a convolution, matrix product, addition, multiplication, pool, concatenation, sigmoid, softmax or leaky relu among them
computes on floats. ONNX Runtime has no
integer kernel for ConvTranspose, Sub, ReduceMean, Tanh, HardSwish (which it computes as a HardSigmoid and a Mul) and Gelu; these
are float islands between a DequantizeLinear and a QuantizeLinear in every file.
"""

import argparse
import collections
import pathlib
import sys
import tempfile

import onnx
import onnxruntime as ort
from onnx import TensorProto

# Operators of layers. The float form and, for pools, the integer form have one name, so the type of the first input decides.
LAYERS = {
    *("Add", "Mul", "Sum"),
    *("Conv", "FusedConv", "FusedGemm", "FusedMatMul", "Gemm", "MatMul"),
    *("AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool"),
    *("Concat", "LeakyRelu", "Sigmoid", "Softmax"),
}
# Matrix products of integers whose result is float: the layer's output was not quantized with it.
HALF_FUSED = {"ConvInteger", "DynamicQuantizeMatMul", "MatMulInteger", "MatMulIntegerToFloat"}
# Operators whose output has the type of their first input.
SAME_TYPE = {
    *("Clip", "GlobalMaxPool", "MaxPool", "NhwcMaxPool", "Relu"),
    *("Concat", "Expand", "Gather", "Pad", "Resize", "Slice", "Split"),
    *("Flatten", "Identity", "ReorderInput", "ReorderOutput", "Reshape", "Squeeze", "Transpose", "Unsqueeze"),
}


def optimised(path, int8_allowed):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    if int8_allowed:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory) / "optimised.onnx"
        options.optimized_model_filepath = str(out)
        ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return onnx.load(str(out))


def is_float(node, types):
    """Whether the output of node is a float tensor, given the types of the tensors before it."""
    op_type = node.op_type
    if op_type in ("QuantizeLinear", "Shape") or op_type.startswith("QLinear"):
        return False
    if op_type == "QGemm":
        # Inputs 7 and 8 are the output's scale and zero point; without them the result is float.
        return len(node.input) < 8 or node.input[7] == ""
    if op_type in SAME_TYPE:
        return types.get(node.input[0], True)
    return True


def left_in_float(path, int8_allowed):
    """The layers that compute on floats in the optimised graph of a file, and that graph."""
    graph = optimised(path, int8_allowed).graph
    types = {tensor.name: tensor.data_type == TensorProto.FLOAT for tensor in graph.initializer}
    types.update({value.name: value.type.tensor_type.elem_type == TensorProto.FLOAT for value in graph.input})
    gates = {node.output[0] for node in graph.node if node.op_type == "HardSigmoid"}
    left = []
    for node in graph.node:
        # Of one operand: a requantization, which is one of float where the types of the codes differ.
        is_requantization = node.op_type == "Concat" and len(node.input) == 1
        is_layer = node.op_type in LAYERS and not is_requantization and not gates.intersection(node.input)
        is_float_layer = is_layer and types.get(node.input[0], True)
        if is_float_layer or node.op_type in HALF_FUSED:
            left.append(node)
        for output in node.output:
            types[output] = is_float(node, types)
    return left, graph


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--int8-allowed", action="store_true", help="set session.qdqisint8allowed, for int8 activations")
    arguments = parser.parse_args()

    left, graph = left_in_float(arguments.model, arguments.int8_allowed)
    counts = collections.Counter(f"{node.domain}.{node.op_type}".lstrip(".") for node in graph.node)
    print(f"onnxruntime {ort.__version__}, onnx {onnx.__version__}: {', '.join(f'{n} {op}' for op, n in sorted(counts.items()))}")
    for node in left:
        print(f"error: fusion, node {node.name!r}: expected an integer operator, found float {node.op_type}")
    sys.exit(1 if left else 0)


if __name__ == "__main__":
    main()
