"""Runs an ONNX file in ONNX Runtime on one array and writes its output.

    python run_onnx.py MODEL.onnx INPUT.npy OUTPUT.npy [--no-optimization] [--int8-allowed] [--codes] [--graph OUT.onnx]

INPUT is float32, or the 8-bit codes of the model's input (int8 or uint8), which are dequantized with the parameters of its first
QuantizeLinear. OUTPUT is float32, or with --codes the 8-bit codes of the output, recovered exactly from the scale and zero point
of the last DequantizeLinear. --graph keeps the graph as ONNX Runtime optimised it. Versions and session options are printed.
"""

import argparse
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper


def parameters(graph, node):
    """Scale and zero point of a QuantizeLinear or DequantizeLinear node, as arrays."""
    initializers = {tensor.name: tensor for tensor in graph.initializer}
    scale, zero_point = (numpy_helper.to_array(initializers[name]) for name in node.input[1:3])
    return scale, zero_point


def reader(graph, op_type, name):
    """The node of type op_type that reads the tensor name."""
    nodes = [node for node in graph.node if node.op_type == op_type and node.input[0] == name]
    if not nodes:
        sys.exit(f"error: graph, tensor {name!r}: expected a {op_type} that reads it, found none")
    return nodes[0]


def writer(graph, op_type, name):
    """The node of type op_type that writes the tensor name."""
    nodes = [node for node in graph.node if name in node.output]
    found = nodes[0].op_type if nodes else "none"
    if found != op_type:
        sys.exit(f"error: graph, tensor {name!r}: expected a {op_type} that writes it, found {found}")
    return nodes[0]


def shift(codes, dtype):
    """The same codes in the other 8-bit type, whose zero points are 128 apart."""
    if codes.dtype == dtype:
        return codes
    return (codes.astype(np.int16) + (128 if dtype == np.uint8 else -128)).astype(dtype)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("input")
    parser.add_argument("output")
    parser.add_argument("--no-optimization", action="store_true", help="run the graph as written: float between the pairs")
    parser.add_argument("--int8-allowed", action="store_true", help="set session.qdqisint8allowed, for int8 activations")
    parser.add_argument("--codes", action="store_true", help="write the output's 8-bit codes")
    parser.add_argument("--graph", metavar="OUT.onnx", help="write the optimised graph")
    arguments = parser.parse_args()

    model = onnx.load(arguments.model)
    onnx.checker.check_model(model, full_check=True)
    graph = model.graph
    initializers = {tensor.name for tensor in graph.initializer}
    input_name = next(value.name for value in graph.input if value.name not in initializers)
    output_name = graph.output[0].name

    x = np.load(arguments.input)
    if x.dtype in (np.int8, np.uint8):
        scale, zero_point = parameters(graph, reader(graph, "QuantizeLinear", input_name))
        x = (shift(x, zero_point.dtype).astype(np.int32) - zero_point.astype(np.int32)).astype(np.float32) * scale
    elif x.dtype != np.float32:
        sys.exit(f"error: input, {arguments.input}: expected float32, int8 or uint8, found {x.dtype}")

    options = ort.SessionOptions()
    options.log_severity_level = 3
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_DISABLE_ALL if arguments.no_optimization else level.ORT_ENABLE_ALL
    if arguments.int8_allowed:
        options.add_session_config_entry("session.qdqisint8allowed", "1")
    if arguments.graph:
        options.optimized_model_filepath = arguments.graph
    session = ort.InferenceSession(arguments.model, options, providers=["CPUExecutionProvider"])
    y = session.run([output_name], {input_name: x})[0]

    if arguments.codes:
        scale, zero_point = parameters(graph, writer(graph, "DequantizeLinear", output_name))
        y = (np.rint(y / scale).astype(np.int32) + zero_point.astype(np.int32)).astype(zero_point.dtype)
    np.save(arguments.output, y)
    print(
        f"onnxruntime {ort.__version__}, onnx {onnx.__version__}, numpy {np.__version__}; {options.graph_optimization_level.name}"
        f"{', session.qdqisint8allowed' if arguments.int8_allowed else ''}; {x.shape} -> {y.shape} {y.dtype}"
    )


if __name__ == "__main__":
    main()
