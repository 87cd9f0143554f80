"""Writes the Keras models that the ONNX import is tested with, through tf2onnx.

    python export_keras_onnx.py OUT_DIR [--mnist DIR] [--epochs 2] [--seed 4]

`keras_cnn` is trained here on the four IDX files of MNIST and its accuracy on the test images is printed; it is left out without
--mnist. The others have random weights. Inputs are NHWC, as Keras has them. Versions and the seed are printed; they belong into
OUT_DIR/README.md. Keras 3 models are traced as functions, which is what tf2onnx takes.
"""

import argparse
import gzip
import os
import pathlib
import platform
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from tensorflow import keras
from tensorflow.keras import layers as L


def images(folder, kind):
    read = lambda name, skip: np.frombuffer(gzip.open(folder / name).read(), np.uint8, offset=skip)
    x = read(f"{kind}-images-idx3-ubyte.gz", 16).reshape(-1, 28, 28, 1).astype(np.float32) / 255
    return x, read(f"{kind}-labels-idx1-ubyte.gz", 8).astype(np.int64)


def cnn():
    return keras.Sequential([
        keras.Input((28, 28, 1)),
        L.Conv2D(8, 3, padding="same", use_bias=False),
        L.BatchNormalization(),
        L.ReLU(),
        L.MaxPooling2D(),
        L.Conv2D(16, 3, strides=2, padding="same", activation="relu"),
        L.Flatten(),
        L.Dropout(0.1),
        L.Dense(10),
    ])


def separable():
    """Separable and depthwise convolutions, one-sided pads, a skip, a global pool, relu6 and softmax."""
    x = inputs = keras.Input((15, 15, 3))
    x = L.ZeroPadding2D(((0, 1), (0, 1)))(x)
    x = L.Conv2D(8, 3, strides=2, use_bias=False)(x)
    x = L.BatchNormalization()(x)
    x = L.ReLU(6.0)(x)
    y = L.SeparableConv2D(8, 3, padding="same", use_bias=False)(x)
    y = L.BatchNormalization()(y)
    y = L.Activation("relu")(y)
    x = L.Add()([x, y])
    x = L.DepthwiseConv2D(3, strides=2, padding="same")(x)
    x = L.LeakyReLU(negative_slope=0.2)(x)
    x = L.AveragePooling2D(2, padding="same")(x)
    x = L.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, L.Dense(4, activation="softmax")(x))


def sequence():
    return keras.Sequential([
        keras.Input((6, 5)),
        L.LSTM(7, return_sequences=True),
        # Not unrolled it is a Loop in the file, which tf2onnx makes no GRU of.
        L.GRU(6, reset_after=True, unroll=True),
        L.Dense(3, activation="tanh"),
    ])


def train(model, folder, epochs):
    x, y = images(folder, "train")
    optimizer = keras.optimizers.Adam(2e-3)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        optimizer.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))

    draw = np.random.default_rng(epochs)
    for epoch in range(epochs):
        order = draw.permutation(len(x))
        for start in range(0, len(x) - 63, 64):
            batch = order[start : start + 64]
            step(tf.constant(x[batch]), tf.constant(y[batch]))
        tx, ty = images(folder, "t10k")
        right = sum((model(tx[i : i + 500], training=False).numpy().argmax(1) == ty[i : i + 500]).sum() for i in range(0, 10000, 500))
        print(f"keras_cnn epoch {epoch + 1}: {right / 100:.2f} % of the test images")


def settle(model, seed):
    """Parameters of batch norms as if they had been trained."""
    draw = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, L.BatchNormalization):
            n = layer.gamma.shape[0]
            layer.set_weights([
                draw.uniform(0.6, 1.4, n), draw.uniform(-0.2, 0.2, n), draw.uniform(-0.3, 0.3, n), draw.uniform(0.5, 1.5, n),
            ])
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--mnist", type=pathlib.Path)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--seed", type=int, default=4)
    arguments = parser.parse_args()
    print(
        f"python {platform.python_version()}, tensorflow {tf.__version__}, keras {keras.__version__}, "
        f"tf2onnx {tf2onnx.__version__}, onnx {onnx.__version__}"
    )
    print(f"command: {' '.join(sys.argv)}; seed {arguments.seed}")
    keras.utils.set_random_seed(arguments.seed)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    arguments.out.mkdir(parents=True, exist_ok=True)

    def export(name, model, opset, batch=None):
        shape = (batch, *model.input_shape[1:])
        signature = [tf.TensorSpec(shape, tf.float32, name="x")]
        function = tf.function(lambda x: model(x, training=False), input_signature=signature)
        tf2onnx.convert.from_function(
            function, signature, opset=opset, output_path=str(arguments.out / f"{name}.onnx")
        )

    export("keras_separable", settle(separable(), arguments.seed), 13)
    export("keras_separable_fixed", settle(separable(), arguments.seed + 1), 18, 1)
    export("keras_sequence", sequence(), 15)
    if arguments.mnist:
        model = cnn()
        train(model, arguments.mnist, arguments.epochs)
        export("keras_cnn", model, 15)


if __name__ == "__main__":
    main()
