"""Output codes of LiteRT's default session (XNNPACK), of its reference kernels and of TFLite-Micro."""

import os
import pathlib
import pickle
import subprocess
import tempfile

from ai_edge_litert.interpreter import Interpreter, OpResolverType

RESOLVERS = {"litert": OpResolverType.AUTO, "litert-ref": OpResolverType.BUILTIN_REF}


def run_litert(model: bytes, inputs: list, engine: str):
    """Outputs, or the reason why the model is refused as a string."""
    try:
        interpreter = Interpreter(
            model_content=model, num_threads=1, experimental_op_resolver_type=RESOLVERS[engine]
        )
        interpreter.allocate_tensors()
        for detail, x in zip(interpreter.get_input_details(), inputs):
            interpreter.set_tensor(detail["index"], x)
        interpreter.invoke()
        return [interpreter.get_tensor(detail["index"]) for detail in interpreter.get_output_details()]
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]}"


def tflm_python() -> str:
    """The interpreter that has TFLite-Micro."""
    python = os.environ.get("QAT_TFLM_PYTHON")
    if not python:
        raise SystemExit("QAT_TFLM_PYTHON: expected an interpreter with tflite-micro, found nothing")
    return python


def tflm_version() -> str:
    """The version of TFLite-Micro."""
    question = "from importlib.metadata import version; print(version('tflite-micro'))"
    return subprocess.run([tflm_python(), "-c", question], check=True, capture_output=True, text=True).stdout.strip()


def run_tflm(jobs: list) -> list:
    """Results of `[(model, inputs)]` in one process of `tflm_python`; each as in `run_litert`."""
    python = tflm_python()
    with tempfile.TemporaryDirectory() as folder:
        paths = [os.path.join(folder, name) for name in ("jobs", "results")]
        with open(paths[0], "wb") as file:
            pickle.dump(jobs, file)
        worker = pathlib.Path(__file__).with_name("tflm_worker.py")
        subprocess.run([python, str(worker), *paths], check=True, capture_output=True)
        with open(paths[1], "rb") as file:
            return pickle.load(file)
