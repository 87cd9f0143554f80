"""Runs a TFLite file in LiteRT (default, reference, built-in without delegates) and in TFLite-Micro.

TFLite-Micro lives in a Python environment of its own, named by QAT_TFLM_PYTHON; a worker process there runs one file after
another. An engine that refuses a file gives `Refused` with its message.
"""

import os
import pathlib
import struct
import subprocess

import numpy as np
from ai_edge_litert.interpreter import Interpreter, OpResolverType

RESOLVERS = {
    "litert": OpResolverType.AUTO,
    "litert-ref": OpResolverType.BUILTIN_REF,
    "litert-builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
}
ENGINES = (*RESOLVERS, "tflm")


class Refused(Exception):
    """The engine does not run the file."""


def run_litert(model: bytes, operands: list, resolver: str, threads: int = 1) -> np.ndarray:
    try:
        interpreter = Interpreter(
            model_content=model, num_threads=threads, experimental_op_resolver_type=RESOLVERS[resolver]
        )
        interpreter.allocate_tensors()
        for detail, codes in zip(interpreter.get_input_details(), operands):
            interpreter.set_tensor(detail["index"], codes)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy()
    except (RuntimeError, ValueError) as error:
        raise Refused(str(error).strip().splitlines()[-1]) from error


class Tflm:
    """The worker process; started at the first use, restarted where a file has killed it."""

    def __init__(self, arena: int = 64 << 20):
        self.arena, self.process = arena, None

    def start(self):
        python = os.environ.get("QAT_TFLM_PYTHON")
        if not python:
            raise Refused("QAT_TFLM_PYTHON is not set")
        worker = pathlib.Path(__file__).with_name("weighted_tflm.py")
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.process = subprocess.Popen([python, str(worker), str(self.arena)], **pipes)

    def run(self, model: bytes, operands: list) -> np.ndarray:
        if self.process is None or self.process.poll() is not None:
            self.start()
        out, back = self.process.stdin, self.process.stdout
        try:
            for part in [struct.pack("<I", 1 + len(operands)), *map(self.framed, [model, *operands])]:
                out.write(part)
            out.flush()
            status, rank = struct.unpack("<BI", back.read(5))
            if status:
                raise Refused(back.read(rank).decode())
            shape = struct.unpack(f"<{rank}I", back.read(4 * rank))
            (length,) = struct.unpack("<I", back.read(4))
            return np.frombuffer(back.read(length), operands[0].dtype).reshape(shape)
        except (BrokenPipeError, struct.error) as error:
            raise Refused(f"the process ended with status {self.process.wait()}") from error

    @staticmethod
    def framed(value) -> bytes:
        if isinstance(value, bytes):
            return struct.pack("<cI", b"m", len(value)) + value
        head = value.dtype.char.encode() + struct.pack("<I", value.ndim) + struct.pack(f"<{value.ndim}I", *value.shape)
        return head + value.tobytes()


TFLM = Tflm()


def run(engine: str, model: bytes, operands: list) -> np.ndarray:
    """Output codes in the file's layout."""
    return TFLM.run(model, operands) if engine == "tflm" else run_litert(model, operands, engine)
