"""Checks, optimises and runs ONNX files of quantized models in ONNX Runtime and compares their codes with the engine's.

    python onnx_codes.py FOLDER [--int8-allowed] [--allow-float] [--near N]

For every FOLDER/NAME.onnx there are NAME.x.npy, the codes (or indices) that go in, and NAME.y.npy, the engine's output codes, int8
or int16. Every file must pass ONNX's full check; every convolution, linear layer, addition and pool of the optimised graph must
compute on integers (see check_fusion.py); every output code must be the engine's. A line for each file; exit code 1 if anything
fails.

--int8-allowed   set session.qdqisint8allowed, for int8 activations
--allow-float    do not look at the optimised graph: 16-bit codes and 4-bit weights are computed in float
--near N         codes may differ by N
"""

import argparse
import pathlib
import sys

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto

import check_fusion
from run_onnx import parameters, reader, shift, writer


def offset(codes):
    """Codes as int32, those of uint8 as the int8 codes 128 below."""
    return codes.astype(np.int32) - (128 if codes.dtype == np.uint8 else 0)


def run(path, graph, x, options):
    """The codes that the file gives for codes `x`, and once more for the last sample as a batch of its own."""
    given, wanted = graph.input[0], graph.output[0]
    element = given.type.tensor_type.elem_type
    if element == TensorProto.FLOAT:
        scale, zero_point = parameters(graph, reader(graph, "QuantizeLinear", given.name))
        x = x if x.dtype == np.int16 else shift(x, zero_point.dtype)
        x = (x.astype(np.int32) - zero_point.astype(np.int32)).astype(np.float32) * scale
    elif element == TensorProto.UINT8:
        x = shift(x, np.uint8)
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    y = session.run([wanted.name], {given.name: x})[0]
    # The last sample once more, alone.
    alone = session.run([wanted.name], {given.name: x[-1:]})[0]
    y = np.concatenate([y, alone])
    if wanted.type.tensor_type.elem_type == TensorProto.FLOAT:
        scale, zero_point = parameters(graph, writer(graph, "DequantizeLinear", wanted.name))
        y = (np.rint(y / scale).astype(np.int32) + zero_point.astype(np.int32)).astype(zero_point.dtype)
    return offset(y)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--int8-allowed", action="store_true")
    parser.add_argument("--allow-float", action="store_true")
    parser.add_argument("--near", type=int, default=0, metavar="N")
    arguments = parser.parse_args()

    print(f"onnxruntime {ort.__version__}, onnx {onnx.__version__}, numpy {np.__version__}")
    failures = 0
    files = sorted(pathlib.Path(arguments.folder).glob("*.onnx"))
    if not files:
        sys.exit(f"error: folder, {arguments.folder}: expected ONNX files, found none")
    for path in files:
        model = onnx.load(str(path))
        onnx.checker.check_model(model, full_check=True)
        left = [] if arguments.allow_float else check_fusion.left_in_float(str(path), arguments.int8_allowed)[0]
        options = ort.SessionOptions()
        options.log_severity_level = 3
        # Sums of floats depend on how they are shared among threads.
        options.intra_op_num_threads = 1
        if arguments.int8_allowed:
            options.add_session_config_entry("session.qdqisint8allowed", "1")
        x, expected = (np.load(path.with_suffix(f".{which}.npy")) for which in "xy")
        found = run(path, model.graph, x, options)
        expected = np.concatenate([expected, expected[-1:]])
        if found.shape != expected.shape:
            print(f"{path.stem}: error: shape: expected {expected.shape}, found {found.shape}")
            failures += 1
            continue
        difference = np.abs(found - offset(expected))
        different = int(np.count_nonzero(difference))
        failures += bool(left) + bool(difference.max(initial=0) > arguments.near)
        in_float = f"; error: in float: {', '.join(f'{node.op_type} {node.name!r}' for node in left)}" if left else ""
        print(
            f"{path.stem}: opset {model.opset_import[0].version}, {found.size} compared ({np.unique(found).size} distinct), "
            f"{different} different, at most {int(difference.max(initial=0))} LSB{in_float}"
        )
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
