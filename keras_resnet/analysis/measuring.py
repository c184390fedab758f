"""Time and memory of a model's inference or training.

In a process of its own, without memory, threads or compiled functions of other models.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from keras_resnet import runtime
from keras_resnet.errors import UserError

WARM = 2  # calls before those that count
_STATUS = Path("/proc/self/status")


class Measurement(NamedTuple):
    """Calls or training steps of one batch size.

    Attributes:
        batch: images of a call or step.
        seconds_min: of the fastest.
        seconds_median: of one.
        images_per_second: in the fastest.
        peak_bytes: resident memory of the process at its peak, above what it had before
            the model: weights, activations and work space; of training gradients and
            momentum too.
    """

    batch: int
    seconds_min: float
    seconds_median: float
    images_per_second: float
    peak_bytes: int


def measure(
    model: Any,
    *,
    batches: Sequence[int] = (1,),
    repeats: int = 10,
    training: bool = False,
    image_size: int | None = None,
) -> list[Measurement]:
    """Measures a model in float32 on random images.

    Args:
        model: a Keras model, or what `models.load_model` takes.
        batches: sizes, each measured after two calls that don't count.
        repeats: calls that count.
        training: measure steps of SGD with momentum instead of inference.
        image_size: side in pixels, where the model leaves it open.

    Raises:
        UserError: no such model, or its process died (of memory, mostly).
    """
    with tempfile.TemporaryDirectory() as folder:
        target = model
        if not isinstance(model, str | Path):
            target = Path(folder) / "model.keras"
            model.save(target)
        request = {
            "target": str(target),
            "batches": sorted(batches),
            "repeats": repeats,
            "training": training,
            "image_size": image_size,
        }
        done = subprocess.run(
            [sys.executable, "-m", __name__, json.dumps(request)],
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        errors = done.stderr.strip().splitlines() or ["no reason given"]
        raise UserError(
            f"model: {target} can't be measured (exit code {done.returncode}): "
            f"{errors[-1]}"
        )
    return [Measurement(*row) for row in json.loads(lines[-1])]


def _measure(request: dict[str, Any]) -> list[Measurement]:
    runtime.prepare()
    import numpy as np
    import tensorflow as tf

    from keras_resnet.analysis.models import load_model

    tf.constant(0.0)
    before = _resident("VmRSS")
    size = request["image_size"]
    model = load_model(request["target"], size)
    shapes = [
        tuple(size if side is None else side for side in tensor.shape[1:])
        for tensor in model.inputs
    ]
    if any(None in shape for shape in shapes):
        raise UserError(f"its image size is open: {shapes}")
    if request["training"]:
        call = _step_of(model)
    else:
        call = tf.function(lambda images: model(images, training=False))
    rows = []
    for batch in request["batches"]:
        images = [
            tf.constant(np.random.default_rng(0).random((batch, *shape), "float32"))
            for shape in shapes
        ]
        images = images if len(images) > 1 else images[0]
        _forget_peak()
        seconds = []
        for _ in range(WARM + request["repeats"]):
            start = time.perf_counter()
            tf.nest.map_structure(lambda tensor: tensor.numpy(), call(images))
            seconds.append(time.perf_counter() - start)
        seconds = seconds[WARM:]
        peak = _resident("VmHWM") - before
        fastest = min(seconds)
        middle = statistics.median(seconds)
        rows.append(Measurement(batch, fastest, middle, batch / fastest, peak))
    return rows


def _step_of(model: Any) -> Any:
    """A function of images that trains for a step, towards outputs of zero."""
    import keras
    import tensorflow as tf

    optimizer = keras.optimizers.SGD(1e-6, momentum=0.9)
    optimizer.build(model.trainable_variables)

    @tf.function
    def step(images: Any) -> Any:
        with tf.GradientTape() as tape:
            outputs = tf.nest.flatten(model(images, training=True))
            loss = tf.add_n([tf.reduce_mean(tf.square(output)) for output in outputs])
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(gradients, model.trainable_variables)
        return loss

    return step


def _resident(field: str) -> int:
    """Bytes of resident memory: now (VmRSS) or at the peak (VmHWM)."""
    if _STATUS.is_file():
        lines = dict(
            line.split(":", 1) for line in _STATUS.read_text("utf-8").splitlines()
        )
        return int(lines[field].split()[0]) * 1024
    return runtime.peak_memory()  # where there is only the peak


def _forget_peak() -> None:
    """Lets the peak start anew: loading took memory that calls don't."""
    clear = Path("/proc/self/clear_refs")
    if clear.exists():
        clear.write_text("5", "utf-8")


if __name__ == "__main__":
    try:
        print(json.dumps(_measure(json.loads(sys.argv[1]))))
    except UserError as mistake:
        sys.exit(str(mistake))
