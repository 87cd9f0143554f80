"""Makes the float TFLite files of crates/export/tests/data: small Keras networks, as TensorFlow's converter writes them.

    python make_float_tflite.py OUT_DIR MNIST_DIR

needs tensorflow-cpu 2.21.0 and the four gzipped IDX files of MNIST (`datasets/mnist`). OUT_DIR gets NAME.tflite, NAME.x.npy
with samples, NAME.y.npy with what the interpreter that comes with TensorFlow gives for them, and birth.txt, the files' birth certificate:
versions, seed, and for each file its operators, size and SHA-256. Weights of the operator files are random; the MNIST network is trained for
two epochs.
"""

import contextlib
import gzip
import hashlib
import os
import sys

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["TF_ENABLE_ONEDNN_OPTS"] = "0"

import keras
import numpy as np
import tensorflow as tf
from keras import layers

SEED = 20261124


def images(path, count):
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=16).reshape(count, 28, 28, 1)


def labels(path):
    with gzip.open(path) as file:
        return np.frombuffer(file.read(), np.uint8, offset=8)


def mobile(batch):
    """Depthwise convolutions, a residual sum, hard-swish, stride 2 with its own padding, a mean, two dense layers."""
    x = inp = keras.Input((20, 20, 3), batch_size=batch, name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(x)
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = layers.Conv2D(8, 3, strides=2, use_bias=False, name="stem")(x)
    x = layers.BatchNormalization()(x)
    x = shortcut = layers.Activation("hard_silu")(x)
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU(6.0)(x)
    x = layers.Conv2D(8, 1, name="project")(x)
    x = layers.Add()([x, shortcut])
    x = layers.Conv2D(12, 3, strides=2, padding="same", dilation_rate=1, activation="relu", name="down")(x)
    x = layers.DepthwiseConv2D((5, 3), strides=1, padding="same", depth_multiplier=2, activation="relu", name="wide")(x)
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(24, 1, activation="sigmoid", name="gate")(x)
    x = layers.Multiply()([x, gate])
    x = layers.Flatten()(x)
    x = layers.Dense(16, activation="gelu", name="hidden")(x)
    return keras.Model(inp, layers.Dense(10, activation="softmax", name="scores")(x))


def decoder(batch):
    """Transposed convolutions of even and odd windows, nearest-neighbour upsampling, concatenation; an image comes out."""
    x = inp = keras.Input((6, 5, 4), batch_size=batch, name="features")
    a = layers.Conv2DTranspose(6, 4, strides=2, padding="same", activation="relu", name="even")(x)
    b = layers.Conv2DTranspose(5, 3, strides=2, padding="same", name="odd")(x)
    c = layers.UpSampling2D(2, interpolation="nearest")(x)
    d = layers.Resizing(12, 10, interpolation="nearest")(x)
    x = layers.Concatenate()([a, b, c + d])
    x = layers.LeakyReLU(negative_slope=0.1)(x)
    x = layers.Conv2DTranspose(4, 2, strides=2, padding="valid", name="grow")(x)
    x = layers.Cropping2D(((1, 2), (0, 3)))(x)
    return keras.Model(inp, layers.Conv2D(3, 3, padding="same", activation="tanh", name="image")(x))


def pools(batch):
    """Pools with and without padding, a flattened image before a dense layer, sums with constants, slices, a permutation."""
    x = inp = keras.Input((13, 12, 3), batch_size=batch, name="image")
    x = layers.Conv2D(6, 3, dilation_rate=2, padding="same", name="dilated")(x)
    x = x * tf.constant(np.linspace(0.5, 1.5, 6), tf.float32) - tf.constant([[[0.1, -0.2, 0.3, 0.0, 0.5, -0.6]]], tf.float32)
    x = layers.MaxPooling2D(3, strides=2, padding="same")(x)
    x = layers.AveragePooling2D(3, strides=2, padding="same")(x)
    a, b = x[..., :2], x[..., 2:]
    b = layers.Permute((2, 1, 3))(b)
    a = layers.Flatten()(a)
    b = layers.Reshape((12, 4))(b)
    b = layers.Dense(4, name="rows")(b)
    b = layers.Softmax()(b)
    b = b[:, 1::2]
    b = layers.Flatten()(b)
    x = layers.Concatenate()([a, b])
    x = 1.0 - layers.Dense(9, activation="tanh", name="dense")(x)
    return keras.Model(inp, x / 3.0)


def sequence(batch):
    """Convolutions over time, as the converter spreads them to images and back, and a product of two activations."""
    x = inp = keras.Input((24, 5), batch_size=batch, name="signal")
    x = layers.Conv1D(8, 5, strides=2, padding="same", activation="relu", name="first")(x)
    x = layers.Conv1D(6, 3, padding="valid", activation="relu", name="second")(x)
    x = layers.Dot(axes=(2, 2))([x, x])
    x = layers.ReLU(max_value=6.0)(x)
    x = layers.AveragePooling1D(2)(x)
    x = layers.Flatten()(x)
    return keras.Model(inp, layers.Dense(4, name="scores")(x))


def mnist(directory):
    """A network for MNIST, trained; its share of the test set; four of its images."""
    x_train = images(f"{directory}/train-images-idx3-ubyte.gz", 60000).astype(np.float32)
    x_test = images(f"{directory}/t10k-images-idx3-ubyte.gz", 10000).astype(np.float32)
    y_train, y_test = labels(f"{directory}/train-labels-idx1-ubyte.gz"), labels(f"{directory}/t10k-labels-idx1-ubyte.gz")
    model = keras.Sequential([
        keras.Input((28, 28, 1), name="digit"),
        layers.Rescaling(1 / 255),
        layers.Conv2D(8, 5, strides=2, padding="same", use_bias=False, name="conv1"),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.Conv2D(16, 3, padding="same", activation="relu", name="conv2"),
        layers.MaxPooling2D(2),
        layers.Flatten(),
        layers.Dense(32, activation="relu", name="hidden"),
        layers.Dense(10, name="scores"),
    ])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(2e-3), loss=loss, metrics=["accuracy"])
    model.fit(x_train, y_train, batch_size=64, epochs=2, verbose=0, shuffle=True)
    return model, model.evaluate(x_test, y_test, verbose=0)[1], x_test[:4]


def converted(model, optimizations=(), types=()):
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = list(optimizations)
    converter.target_spec.supported_types = list(types)
    with contextlib.redirect_stdout(sys.stderr):
        return converter.convert()


def lively(model, generator):
    """The model with weights and statistics that no layer can ignore."""
    model.set_weights([
        w * 0.6 + generator.uniform(0.05, 0.6 if "var" in v.path else 0.15, w.shape).astype(np.float32)
        for w, v in zip(model.get_weights(), model.weights)
    ])
    return model


def run(file, x):
    interpreter = tf.lite.Interpreter(model_content=file)
    interpreter.allocate_tensors()
    [inp], [out] = interpreter.get_input_details(), interpreter.get_output_details()
    outputs = []
    for sample in np.split(x, len(x)):
        interpreter.set_tensor(inp["index"], sample)
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(out["index"]))
    names = [op["op_name"] for op in interpreter._get_ops_details() if op["op_name"] != "DELEGATE"]
    return np.concatenate(outputs), names


def main():
    out, mnist_directory = sys.argv[1:]
    os.makedirs(out, exist_ok=True)
    keras.utils.set_random_seed(SEED)
    tf.config.experimental.enable_op_determinism()
    generator = np.random.default_rng(SEED)
    birth = [
        f"tensorflow {tf.__version__}, keras {keras.__version__}, numpy {np.__version__}, seed {SEED}",
        "command: python tests/peers/make_float_tflite.py crates/export/tests/data/float_tflite datasets/mnist",
    ]

    def save(name, model, x, **options):
        file = converted(model, **options)
        y, operators = run(file, x)
        with open(f"{out}/{name}.tflite", "wb") as stream:
            stream.write(file)
        np.save(f"{out}/{name}.x.npy", x)
        np.save(f"{out}/{name}.y.npy", y)
        birth.append(f"{name}.tflite: {len(file)} bytes, sha256 {hashlib.sha256(file).hexdigest()}\n  {' '.join(operators)}")

    half = dict(optimizations=[tf.lite.Optimize.DEFAULT], types=[tf.float16])
    hybrid = dict(optimizations=[tf.lite.Optimize.DEFAULT])
    networks = [("mobile", mobile(None), 255.0), ("decoder", decoder(1), 1.0), ("pools", pools(None), 1.0), ("sequence", sequence(1), 1.0)]
    for name, model, scale in networks:
        model = lively(model, generator)
        x = generator.uniform(0 if scale > 1 else -scale, scale, (4, *model.input_shape[1:])).astype(np.float32)
        save(name, model, x)
        if name == "mobile":
            save("mobile_half", model, x, **half)
    model, accuracy, x = mnist(mnist_directory)
    save("mnist", model, x)
    save("mnist_hybrid", model, x, **hybrid)
    birth.append(f"mnist: {100 * accuracy:.2f} % of the test set right, by Keras")
    with open(f"{out}/birth.txt", "w") as stream:
        stream.write("\n".join(birth) + "\n")


main()
