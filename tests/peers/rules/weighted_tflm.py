"""Worker in TFLite-Micro's Python environment: files and operands in by stdin, output codes out by stdout."""

import struct
import sys

import numpy as np
from tflite_micro.python.tflite_micro import runtime


def read(stream, count: int) -> bytes:
    data = stream.read(count)
    if len(data) != count:
        sys.exit(0)
    return data


def value(stream):
    kind, count = struct.unpack("<cI", read(stream, 5))
    if kind == b"m":
        return read(stream, count)
    shape = struct.unpack(f"<{count}I", read(stream, 4 * count))
    dtype = np.dtype(kind.decode())
    return np.frombuffer(read(stream, int(np.prod(shape)) * dtype.itemsize), dtype).reshape(shape)


def main():
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    while True:
        (count,) = struct.unpack("<I", read(source, 4))
        model, *operands = [value(source) for _ in range(count)]
        try:
            interpreter = runtime.Interpreter.from_bytes(model, arena_size=int(sys.argv[1]))
            for index, codes in enumerate(operands):
                interpreter.set_input(codes, index)
            interpreter.invoke()
            codes = interpreter.get_output(0)
        except Exception as error:  # Whatever the interpreter raises is an answer here.
            text = str(error).encode() or type(error).__name__.encode()
            sink.write(struct.pack("<BI", 1, len(text)) + text)
        else:
            data = np.ascontiguousarray(codes).tobytes()
            sink.write(struct.pack("<BI", 0, codes.ndim) + struct.pack(f"<{codes.ndim}I", *codes.shape))
            sink.write(struct.pack("<I", len(data)) + data)
        sink.flush()


main()
