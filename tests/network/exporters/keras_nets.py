"""The small Keras networks the exporters are fed with; images are [N, H, W, C]."""

from __future__ import annotations

import keras
import numpy as np
from keras import layers

CLASSES = 3


def sequential(shape: tuple[int, int, int], activation: str | None) -> keras.Model:
    """Stride 2 with padding "same" (at even sizes more below than above), batch norm, shared PReLU."""
    return keras.Sequential(
        [
            keras.Input(shape, name="image"),
            layers.Conv2D(3, 3, strides=2, padding="same"),
            layers.BatchNormalization(),
            layers.PReLU(shared_axes=[1, 2]),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dropout(0.3),
            layers.Dense(CLASSES, activation=activation),
        ]
    )


def vgg(shape: tuple[int, int, int]) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input(shape, name="image"),
            layers.Rescaling(2.0, offset=-1.0),
            layers.Conv2D(3, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(3, strides=2, padding="same"),
            layers.Conv2D(4, 3, padding="same", activation="relu", dilation_rate=2),
            layers.GlobalAveragePooling2D(),
            layers.Dense(CLASSES, use_bias=False),
        ]
    )


def residual(shape: tuple[int, int, int]) -> keras.Model:
    image = keras.Input(shape, name="image")
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(3, 3, padding="same", use_bias=False)(image)))
    branch = layers.ZeroPadding2D(1)(x)
    branch = layers.Conv2D(4, 3, strides=2, use_bias=False)(branch)
    branch = layers.ReLU()(layers.BatchNormalization()(branch))
    branch = layers.BatchNormalization()(layers.Conv2D(4, 3, padding="same")(branch))
    shortcut = layers.Conv2D(4, 1, strides=2)(x)
    x = layers.ReLU()(layers.Add()([branch, shortcut]))
    return keras.Model(image, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def mobile(shape: tuple[int, int, int]) -> keras.Model:
    """MobileNet: padding by hand, depthwise, ReLU6, a 1x1 convolution as the dense layer."""
    image = keras.Input(shape, name="image")
    x = layers.ZeroPadding2D(((0, 1), (0, 1)))(image)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(4, 3, strides=2, use_bias=False)(x)))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(CLASSES, 1, padding="same")(x)
    return keras.Model(image, layers.Activation("softmax")(layers.Reshape((CLASSES,))(x)))


def efficient(shape: tuple[int, int, int]) -> keras.Model:
    """EfficientNet: swish and squeeze-excite; concatenation and average pooling behind."""
    image = keras.Input(shape, name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", activation="swish")(image)
    gate = layers.Reshape((1, 1, 4))(layers.GlobalAveragePooling2D()(x))
    gate = layers.Conv2D(2, 1, activation="swish")(gate)
    x = layers.Multiply()([x, layers.Conv2D(4, 1, activation="sigmoid")(gate)])
    x = layers.Concatenate()([x, layers.LeakyReLU(0.2)(layers.Conv2D(2, 1)(x))])
    x = layers.AveragePooling2D(2, padding="same")(x)
    return keras.Model(image, layers.Dense(CLASSES)(layers.GlobalAveragePooling2D()(x)))


def class_maps(shape: tuple[int, int, int]) -> keras.Model:
    """A 1x1 convolution as classifier, pooled behind.

    The GELU is the approximate one: for the exact one tf2onnx 1.17 writes an operator Erfc, which is no ONNX.
    """
    return keras.Sequential(
        [
            keras.Input(shape, name="image"),
            layers.Conv2D(4, 3, activation="elu"),
            layers.SeparableConv2D(4, 3, activation=lambda x: keras.activations.gelu(x, approximate=True)),
            layers.Conv2D(CLASSES, 1),
            layers.GlobalAveragePooling2D(),
            layers.Softmax(),
        ]
    )


def flattened(shape: tuple[int, int, int]) -> keras.Model:
    """No class activation map: flatten -> dense."""
    return keras.Sequential(
        [
            keras.Input(shape, name="image"),
            layers.Conv2D(4, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(CLASSES),
        ]
    )


def seeded(model: keras.Model, seed: int) -> keras.Model:
    """The model with weights, biases and statistics that are all far from their defaults."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        shape, name = variable.shape, variable.path.rsplit("/", 1)[-1]
        value = rng.standard_normal(shape)
        if "kernel" in name:
            fan_in = shape[0] * shape[1] if "depthwise" in variable.path else np.prod(shape[:-1])
            value *= 1.4 * fan_in**-0.5
        elif name == "moving_variance":
            value = rng.uniform(0.5, 1.5, shape)
        elif name == "gamma":
            value = 1 + 0.3 * value
        elif name == "alpha":
            value = rng.uniform(0.1, 0.4, shape)
        else:
            value *= 0.2
        variable.assign(value.astype(np.float32))
    return model
