"""Runs TFLite files in LiteRT or TFLite-Micro, each on one array, and writes their outputs.

    python run_tflite.py MODEL.tflite INPUT.npy OUTPUT.npy [MODEL INPUT OUTPUT …] [--resolver default|reference|no-delegates|tflm]

INPUT is what the file's input takes, with a sample for each entry of its first axis: codes of the file's type (int8 may stand for
uint8, whose codes are 128 above) or float32. OUTPUT is what the file gives, codes as they are. Samples are run one at a time, or
with --resize in one batch. `default` is the session that applies XNNPACK; `tflm` needs a Python with tflite-micro. Versions are
printed. Where a runtime refuses a file, the others are still run and the exit code is 1.
"""

import argparse
import importlib.metadata
import sys

import numpy as np

RESOLVERS = {"default": "AUTO", "reference": "BUILTIN_REF", "no-delegates": "BUILTIN_WITHOUT_DEFAULT_DELEGATES"}


def matching(x, dtype, shape):
    """The samples as arrays of the input's type and shape."""
    if x.dtype == np.int8 and dtype == np.uint8:
        x = (x.astype(np.int16) + 128).astype(np.uint8)
    if x.dtype != dtype:
        sys.exit(f"error: input: expected {np.dtype(dtype)}, found {x.dtype}")
    if x[:1].size != np.prod(shape):
        sys.exit(f"error: input: expected samples of shape {list(shape)}, found {list(x.shape[1:])}")
    return x


def litert(arguments, model, x):
    """The outputs, and what ran."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = getattr(OpResolverType, RESOLVERS[arguments.resolver])
    interpreter = Interpreter(model, num_threads=1, experimental_op_resolver_type=kind)
    [inp] = interpreter.get_input_details()
    if arguments.resize:
        interpreter.resize_tensor_input(inp["index"], [len(x), *inp["shape"][1:]])
    interpreter.allocate_tensors()
    x = matching(x, inp["dtype"], inp["shape"])
    [out] = interpreter.get_output_details()
    outputs = []
    for batch in [x] if arguments.resize else np.split(x, len(x)):
        shape = interpreter.get_input_details()[0]["shape"]
        interpreter.set_tensor(inp["index"], batch.reshape(shape))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(out["index"]))
    return np.concatenate(outputs), f"ai-edge-litert {importlib.metadata.version('ai-edge-litert')}, {kind.name}"


def tflm(arguments, model, x):
    """As `litert`."""
    from tflite_micro.python.tflite_micro import runtime

    if arguments.resize:
        sys.exit("error: --resize: expected a LiteRT resolver, found tflm")
    interpreter = runtime.Interpreter.from_file(model, arena_size=arguments.arena)
    inp = interpreter.get_input_details(0)
    x = matching(x, inp["dtype"], inp["shape"])
    outputs = []
    for sample in np.split(x, len(x)):
        interpreter.set_input(sample.reshape(inp["shape"]), 0)
        interpreter.invoke()
        outputs.append(np.array(interpreter.get_output(0)))
    return np.concatenate(outputs), f"tflite-micro {importlib.metadata.version('tflite-micro')}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="MODEL INPUT OUTPUT")
    parser.add_argument("--resolver", choices=[*RESOLVERS, "tflm"], default="default")
    parser.add_argument("--resize", action="store_true", help="run all samples in one batch")
    parser.add_argument("--arena", type=int, default=16 << 20, help="bytes for TFLite-Micro's tensors")
    arguments = parser.parse_args()
    if len(arguments.files) % 3:
        parser.error(f"expected a model, an input and an output each, found {len(arguments.files)} files")

    refused = False
    for model, source, target in zip(*(iter(arguments.files),) * 3):
        x = np.load(source)
        try:
            y, engine = (tflm if arguments.resolver == "tflm" else litert)(arguments, model, x)
        except Exception as error:  # Whatever a runtime raises is its refusal.
            print(f"refused {model}: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            refused = True
            continue
        np.save(target, y)
        print(f"{engine}, numpy {np.__version__}; {x.shape} -> {y.shape} {y.dtype}")
    sys.exit(1 if refused else 0)


if __name__ == "__main__":
    main()
