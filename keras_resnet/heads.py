"""What a model's outputs are: logits, or probabilities by a softmax or by sigmoids.

Read off the operations of its graph, where layers, functions and nested models are
alike; what these leave open is tried on inputs. What can't be told is refused.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, get_args

import keras
import numpy as np
import tensorflow as tf

from keras_resnet.errors import UserError
from keras_resnet.tasks import Task

Kind = Literal["logits", "softmax", "sigmoid"]

TRIALS = 8  # inputs that a head is tried on
# How far sums of probabilities may be from 1: float16 has 11 bits.
_ROUNDING = 1e-2

# Operations of TensorFlow by what becomes of logits in them.
_SAME = {"Identity", "Cast", "Reshape", "Squeeze", "StopGradient", "EnsureShape"}
_AFFINE = {
    "Add", "AddN", "AddV2", "AvgPool", "BiasAdd", "ConcatV2", "FusedBatchNormV3",
    "LogSoftmax", "Max", "MaxPool", "Mean", "Mul", "Neg", "Pack", "RealDiv", "Sub",
    "Sum",
}  # fmt: skip
_WEIGHTED = {"BatchMatMulV2", "Conv2D", "DepthwiseConv2dNative", "Einsum", "MatMul"}

_REGRESSION = {
    "huber", "huber_loss", "log_cosh", "mean_absolute_error",
    "mean_absolute_percentage_error", "mean_squared_error",
    "mean_squared_logarithmic_error", "poisson",
}  # fmt: skip
_BINARY = {"binary_crossentropy", "binary_focal_crossentropy"}
_CLASSES = {
    "categorical_crossentropy", "categorical_focal_crossentropy", "categorical_hinge",
    "kl_divergence", "label_loss", "sparse_categorical_crossentropy",
}  # fmt: skip


class Head(NamedTuple):
    """How a model ends, and what that stands for.

    Attributes:
        kind: what it puts out.
        units: how many numbers for each input.
        task: "classes", of which one is right; "binary", one number for a class and
            its opposite; "labels", each right or not; "regression"; None where one
            linear output may be a logit or a value, or sigmoids were trained as
            values.
    """

    kind: Kind
    units: int
    task: Task | None

    @property
    def classes(self) -> int:
        """How many numbers an answer has: two of a binary head."""
        return 2 if self.task == "binary" else self.units

    def answers(self, outputs: Any) -> Any:
        """float32 probabilities (batch, classes), or values of a regression.

        Of a binary head the second is of the class that it is trained on.
        """
        outputs = keras.ops.cast(outputs, "float32")
        if self.kind == "logits" and self.task == "classes":
            return keras.ops.softmax(outputs)
        if self.kind == "logits" and self.task != "regression":
            outputs = keras.ops.sigmoid(outputs)
        if self.task == "binary":
            outputs = keras.ops.concatenate([1 - outputs, outputs], axis=-1)
        return outputs

    def errors(
        self, answers: np.ndarray, targets: np.ndarray, scale: Any = 1.0
    ) -> np.ndarray:
        """How wrong answers are: a number for each image, 0 where all is right.

        Args:
            answers: as `answers` makes them.
            targets: classes (batch,), or labels or values (batch, units).
            scale: of each value, such as its standard deviation.

        Returns:
            1 where the likeliest class is another; 1 - F1 of the image's labels, given
            from 0.5 on; the values' mean distance over `scale`.
        """
        if self.task == "regression":
            return np.asarray((np.abs(answers - targets) / scale).mean(axis=-1))
        decided, targets = self.decide(answers), np.asarray(targets)
        if self.task != "labels":
            return np.asarray(decided != targets, float)
        both = (decided & (targets > 0.5)).sum(axis=-1)
        total = decided.sum(axis=-1) + (targets > 0.5).sum(axis=-1)
        wrong = 1 - 2 * both / np.maximum(total, 1)
        return np.asarray(np.where(total > 0, wrong, 0.0))

    def decide(self, answers: np.ndarray) -> np.ndarray:
        """The likeliest class (batch,); labels that are given, or values, of each."""
        answers = np.asarray(answers)
        if self.task == "regression":
            return answers
        if self.task == "labels":
            return np.asarray(answers > 0.5)
        return np.asarray(answers.argmax(axis=-1))

    def check(self, name: str, outputs: np.ndarray) -> None:
        """Tries the reading on what the model of this name has put out.

        Raises:
            UserError: it can't be right: logits that are probabilities, or
                probabilities that are none.
        """
        outputs = np.asarray(outputs, "float32")
        if not np.isfinite(outputs).all():
            return  # of a run that diverged
        sums_to_1 = self.units > 1 and _is_distribution(outputs)
        shares = bool(((outputs >= 0) & (outputs <= 1)).all())
        fits = {"softmax": sums_to_1, "sigmoid": shares, "logits": not sums_to_1}
        if not fits[self.kind]:
            raise UserError(
                f"model: {name} seems to end in {self.kind}, but its outputs "
                f"{'are' if self.kind == 'logits' else 'are not'} probabilities"
            )


def head_of(model: keras.Model, task: str | None = None) -> Head:
    """How a model ends.

    Args:
        model: compiled or not: its loss may say what logits are of. If it doesn't,
            several are of classes.
        task: what is known of it.

    Raises:
        UserError: it has not one input and one output (batch, units), or gives
            neither logits, a softmax nor sigmoids; or they can't be of this task.
    """
    if task is not None and task not in get_args(Task):
        raise UserError(
            f"task: {task!r} is not one of {', '.join(map(repr, get_args(Task)))}"
        )
    inputs, outputs = (getattr(model, name, None) or [] for name in _ENDS)
    if not outputs:
        raise UserError(
            f"model: {model.name} has no known outputs: it is not functional or "
            "sequential, or has not been built"
        )
    if len(outputs) != 1 or len(outputs[0].shape) != 2:
        raise UserError(
            f"model: {model.name} is no classifier: its output is not (batch, classes)"
        )
    if len(inputs) != 1:
        raise UserError(f"model: {model.name} takes {len(inputs)} inputs, not images")
    units = outputs[0].shape[-1]
    kind = _kind_of_dense(outputs[0]) or _kind_in_graph(model)
    if kind == "softmax" and units == 1:
        raise UserError(
            f"model: {model.name} ends in a softmax of one class, which is always 1; "
            "end it in one logit or a sigmoid"
        )
    possible = _TASKS[kind, units > 1]
    if task is not None and task not in possible:
        raise UserError(
            f"task: {task!r} is not what {model.name} does: a head of {units} {kind} "
            f"is of {' or '.join(map(repr, possible))}"
        )
    said = _task_of_loss(getattr(model, "loss", None), units)
    found: Any = task or said
    if task is None and kind == "sigmoid" and said == "regression":
        found = None  # values between 0 and 1, or classes by a loss of values
    elif found not in possible:
        found = possible[0] if kind != "logits" or units > 1 else None
    return Head(kind, units, found)


def is_guessed(model: keras.Model, head: Head) -> bool:
    """Whether several logits are taken to be of classes by a loss that nobody knows."""
    loss = getattr(model, "loss", None)
    told = loss is None or _task_of_loss(loss, head.units)
    return head.kind == "logits" and head.task == "classes" and not told


_ENDS = ("inputs", "outputs")
# What heads can be of, by their kind and whether they have several units.
_TASKS: dict[tuple[Kind, bool], tuple[Task, ...]] = {
    ("softmax", True): ("classes",),
    ("sigmoid", False): ("binary", "regression"),
    ("sigmoid", True): ("labels", "regression"),
    ("logits", False): ("binary", "regression"),
    ("logits", True): ("classes", "labels", "regression"),
}


def _kind_of_dense(output: Any) -> Kind | None:
    """Of what ends in Keras' own dense layer, as most models do, without a trace."""
    layer = output._keras_history.operation
    if type(layer) is not keras.layers.Dense:
        return None
    kinds: dict[Any, Kind] = {
        keras.activations.linear: "logits",
        keras.activations.softmax: "softmax",
        keras.activations.sigmoid: "sigmoid",
    }
    return kinds.get(layer.activation)


def _kind_in_graph(model: keras.Model) -> Kind:
    [image] = model.inputs
    traced = tf.function(
        lambda images: _called(model, images),
        input_signature=[tf.TensorSpec(image.shape, image.dtype)],
        autograph=False,
    ).get_concrete_function()
    [output] = traced.outputs
    kind, _ = read(output)
    if kind is None:  # such as a softmax by exponents and their sum
        images = _trial_inputs(image.shape[1:]).astype(image.dtype)
        [answers] = keras.tree.flatten(_called(model, images))
        if _is_distribution(answers):
            return "softmax"
        operation = _through(output, _SAME).op.type
        raise UserError(
            f"model: {model.name} ends in {operation}, which gives neither logits nor "
            "a softmax or sigmoids"
        )
    return kind


def _called(model: keras.Model, images: Any) -> Any:
    """A model of images, whose only input may be in a dictionary or a list."""
    # A Sequential that was never called has no `input`.
    structure = getattr(model, "input", model.inputs[0])
    return model(keras.tree.pack_sequence_as(structure, [images]), training=False)


def read(output: Any) -> tuple[Kind | None, Any]:
    """What a tensor of a graph is, and its logits.

    Args:
        output: of a graph that TensorFlow has traced, (batch, units).

    Returns:
        the kind and the logits; neither where the operations don't tell.
    """
    last = _through(output, _SAME)
    if last.op.type in ("Softmax", "Sigmoid"):
        return last.op.type.lower(), last.op.inputs[0]
    if _are_logits(last, _depending(output.graph), {}):
        return "logits", output
    return None, None


def _through(tensor: Any, operations: set[str]) -> Any:
    while tensor.op.type in operations:
        tensor = tensor.op.inputs[0]
    return tensor


def _depending(graph: Any) -> set[str]:
    """The operations that depend on what is fed, by their names."""
    found: set[str] = set()
    captured = {internal.op.name for _, internal in graph.captures}
    for operation in graph.get_operations():  # in the order of their making
        fed = operation.type == "Placeholder" and operation.name not in captured
        if fed or any(each.op.name in found for each in operation.inputs):
            found.add(operation.name)
    return found


def _are_logits(tensor: Any, depending: set[str], known: dict[str, bool]) -> bool:
    """Whether a tensor is an affine function of some layer's weighted sums."""
    operation = tensor.op
    if operation.type in _WEIGHTED:
        return True
    if operation.type not in _SAME | _AFFINE:
        return False
    if operation.name not in known:
        known[operation.name] = False
        of_data = [each for each in operation.inputs if each.op.name in depending]
        divides = operation.type == "RealDiv" and of_data != [operation.inputs[0]]
        product = operation.type == "Mul" and len(of_data) > 1
        known[operation.name] = (
            bool(of_data)
            and not (divides or product)
            and all(_are_logits(each, depending, known) for each in of_data)
        )
    return known[operation.name]


def _trial_inputs(shape: Any) -> np.ndarray:
    """Noise of several contrasts, as pixels; open sides are 64."""
    sides = [64 if side is None else side for side in shape]
    random = np.random.default_rng(0)
    contrasts = np.linspace(0.05, 1, TRIALS).reshape(-1, *[1] * len(sides))
    return (random.uniform(0, 255, (TRIALS, *sides)) * contrasts).astype("float32")


def _is_distribution(outputs: Any) -> bool:
    """Whether all rows are probabilities that sum to 1."""
    outputs = np.asarray(outputs, "float32")
    sums = outputs.sum(axis=-1)
    return bool((outputs >= 0).all() and (np.abs(sums - 1) < _ROUNDING).all())


def _task_of_loss(loss: Any, units: int) -> Task | None:
    """What a model was compiled for; None if the loss doesn't say."""
    try:
        loss = keras.losses.get(loss) if isinstance(loss, str) else loss
    except ValueError:
        return None
    name = getattr(loss, "name", None) or getattr(loss, "__name__", None)
    if name in _REGRESSION:
        return "regression"
    if name in _BINARY:
        return "binary" if units == 1 else "labels"
    if name in _CLASSES:
        return "classes"
    return None
