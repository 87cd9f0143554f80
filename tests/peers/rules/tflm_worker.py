"""Runs `.tflite` models in TFLite-Micro; started by `tflite_engines.py` with the interpreter that has `tflite-micro`.

    python tflm_worker.py PICKLE PICKLE     reads [(model bytes, [inputs])], writes [[outputs] or the error as a string]
"""

import pickle
import sys

from tflite_micro import runtime


def run(model: bytes, inputs: list):
    """Outputs of one model, or the reason why it is refused."""
    try:
        interpreter = runtime.Interpreter.from_bytes(model, arena_size=64 << 20)
        for i, x in enumerate(inputs):
            interpreter.set_input(x, i)
        interpreter.invoke()
        outputs = []
        while True:
            try:
                outputs.append(interpreter.get_output(len(outputs)).copy())
            except Exception:
                return outputs
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def main():
    with open(sys.argv[1], "rb") as file:
        jobs = pickle.load(file)
    results = [run(model, inputs) for model, inputs in jobs]
    with open(sys.argv[2], "wb") as file:
        pickle.dump(results, file)


if __name__ == "__main__":
    main()
