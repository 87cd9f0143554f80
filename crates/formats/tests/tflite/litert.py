"""What LiteRT makes of a .tflite file: litert.py view FILE | litert.py run FILE CODE...

view: prints what LiteRT's generated schema code reads, a line for each part, values as Rust's Debug prints them.
run: runs the file on one int8 input and prints the int8 output, with the reference kernels and with the default ones.
"""

import re
import sys

import numpy as np
from ai_edge_litert import schema_py_generated as schema

ENUMS = {
    "padding": schema.Padding,
    "fused_activation_function": schema.ActivationFunctionType,
    "weights_format": schema.FullyConnectedOptionsWeightsFormat,
    "kernel_type": schema.LSTMKernelType,
    "mode": schema.MirrorPadMode,
    **dict.fromkeys(["in_data_type", "out_data_type", "out_type", "output_type", "quantized_bias_type"], schema.TensorType),
}


def name_of(enum, number):
    return next(name for name, value in vars(enum).items() if value == number and not name.startswith("_"))


def shown(value):
    if value is None:
        return "[]"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, bytes):
        return '"' + value.decode() + '"'
    if isinstance(value, (list, np.ndarray)):
        return "[" + ", ".join(shown(item.item() if isinstance(item, np.generic) else item) for item in value) + "]"
    return str(value)


def shown_options(options):
    if options is None:
        return "None"
    fields = []
    for camel, value in vars(options).items():
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", camel).lower()
        if name in ENUMS:
            fields.append(f"{name}: {name_of(ENUMS[name], value)}")
        elif value is not None:
            fields.append(f"{name}: {shown(value)}")
    title = type(options).__name__.removesuffix("T")
    return f"{title} {{ {', '.join(fields)} }}" if fields else title.removesuffix("Options")


def view(data):
    assert schema.Model.ModelBufferHasIdentifier(data, 0)
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    print(f"version {model.version} description {shown(model.description)}")
    for code in model.operatorCodes:
        name = name_of(schema.BuiltinOperator, code.builtinCode)
        print(f"code {name} old {code.deprecatedBuiltinCode} version {code.version} custom {shown(code.customCode)}")
    tables = schema.Model.GetRootAs(data, 0)
    for index, buffer in enumerate(model.buffers):
        place = 0
        if buffer.data is not None:
            vector = tables.Buffers(index).DataAsNumpy()
            place = vector.__array_interface__["data"][0] - np.frombuffer(data, np.uint8).__array_interface__["data"][0]
        print(f"buffer {shown(buffer.data)} misaligned by {place % 16}")
    for subgraph in model.subgraphs:
        print(f"subgraph {shown(subgraph.name)} inputs {shown(subgraph.inputs)} outputs {shown(subgraph.outputs)}")
        for tensor in subgraph.tensors:
            print(
                f"tensor {shown(tensor.name)} {name_of(schema.TensorType, tensor.type)} {shown(tensor.shape)}"
                f" signature {shown(tensor.shapeSignature)} buffer {tensor.buffer} variable {shown(tensor.isVariable)}"
            )
            if (q := tensor.quantization) is not None:
                print(
                    f"quantization {shown(q.min)} {shown(q.max)} {shown(q.scale)} {shown(q.zeroPoint)} {q.quantizedDimension}"
                )
        for operator in subgraph.operators:
            print(
                f"operator {operator.opcodeIndex} {shown(operator.inputs)} {shown(operator.outputs)}"
                f" custom {shown(operator.customOptions)} mutating {shown(operator.mutatingVariableInputs)}"
                f" intermediates {shown(operator.intermediates)} {shown_options(operator.builtinOptions)}"
            )
    for metadata in model.metadata or []:
        print(f"metadata {shown(metadata.name)} {metadata.buffer}")
    for signature in model.signatureDefs or []:
        inputs = [f"{shown(m.name)} {m.tensorIndex}" for m in signature.inputs]
        outputs = [f"{shown(m.name)} {m.tensorIndex}" for m in signature.outputs]
        print(f"signature {shown(signature.signatureKey)} of {signature.subgraphIndex}: {inputs} to {outputs}")


def run(path, codes):
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    for resolver in [OpResolverType.BUILTIN_REF, OpResolverType.AUTO]:
        interpreter = Interpreter(path, experimental_op_resolver_type=resolver)
        interpreter.allocate_tensors()
        given = interpreter.get_input_details()[0]
        interpreter.set_tensor(given["index"], np.array(codes, np.int8).reshape(given["shape"]))
        interpreter.invoke()
        print(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).ravel().tolist())


if sys.argv[1] == "view":
    with open(sys.argv[2], "rb") as file:
        view(file.read())
else:
    run(sys.argv[2], [int(code) for code in sys.argv[3:]])
