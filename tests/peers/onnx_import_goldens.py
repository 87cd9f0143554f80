"""Writes what ONNX Runtime makes of the float models in a folder, for the test of the import.

    python onnx_import_goldens.py DIR > DIR/outputs.txt

Input element i is ((7919 i) mod 2003) / 1001.5 - 1 as float32, or (7919 i) mod 12 where the input is indices; there are 3 samples, or
as many as the file fixes. A line has the model, the batch, and the output's numbers.
"""

import pathlib
import sys

import numpy as np
import onnxruntime as ort

print(f"# onnxruntime {ort.__version__}, numpy {np.__version__}: python onnx_import_goldens.py DIR > DIR/outputs.txt")
for path in sorted(pathlib.Path(sys.argv[1]).glob("*.onnx")):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    [source] = session.get_inputs()
    batch = source.shape[0] if isinstance(source.shape[0], int) else 3
    shape = [batch, *source.shape[1:]]
    index = np.arange(np.prod(shape), dtype=np.int64) * 7919
    if source.type == "tensor(float)":
        x = ((index % 2003).astype(np.float64) / 1001.5 - 1).astype(np.float32)
    else:
        x = (index % 12).astype({"tensor(int64)": np.int64, "tensor(int32)": np.int32}[source.type])
    [y] = session.run(None, {source.name: x.reshape(shape)})
    print(path.stem, batch, *(repr(float(value)) for value in y.ravel()))
