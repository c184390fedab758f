"""Trainings that test_distribution.py runs in processes of their own.

python tests/distribution_job.py mirrored          # two logical CPUs; prints JSON
python tests/distribution_job.py worker MODE FOLDER    # as TF_CONFIG says
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from keras_resnet import build, cifar_resnet
from keras_resnet.errors import UserError
from keras_resnet.optimizers import SGD
from keras_resnet.training import get_recipe, launch
from keras_resnet.training.devices import distribution, multiworker, replicas

SPEC = cifar_resnet(
    8, name="tiny", input_shape=(8, 8, 1), stem_width=4, widths=(4, 8, 8)
)
GROUPED = SPEC.replace(block="bottleneck", cardinality=2, widths=(16, 16, 16))
RECIPE = get_recipe("digits").replace(
    name="tiny",
    model=SPEC,
    epochs=6,
    warmup_epochs=0,
    batch_size=16,
    schedule="plateau",
    patience=1,
    ema=0.9,
)
X = np.random.default_rng(0).normal(size=(40, 8, 8, 1)).astype("float32")
Y = np.arange(40) % 10


def dataset(images, strategy, training):
    batches = tf.data.Dataset.from_tensor_slices((X[:images], Y[:images])).batch(16)
    return replicas.for_replicas(batches, strategy, training=training)


def compiled(strategy, spec=SPEC, optimizer=None, synchronized=True, **options):
    keras.utils.set_random_seed(0)
    with distribution.scope(strategy):
        model = build(spec, **options)
        if synchronized:
            replicas.synchronize_batch_norm(model)
        model.compile(
            optimizer() if optimizer else SGD(0.1, momentum=0.9, l2=1e-3),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
    return model


def fitted(model, strategy, images=32, epochs=2, callbacks=()):
    history = model.fit(
        dataset(images, strategy, True),
        validation_data=dataset(32, strategy, False),
        epochs=epochs,
        verbose=0,
        shuffle=False,
        callbacks=replicas.with_shared_state(callbacks, strategy),
    )
    return history.history


# Both momentums, grouped convolutions, recomputation, averaged weights.
CASES = {
    "outside, grouped": {
        "spec": GROUPED,
        "optimizer": lambda: SGD(
            0.1, momentum=0.9, l2=1e-3, rate_in_velocity=False, nesterov=True
        ),
    },
    "inside, recomputed": {"recompute": True, "spec": SPEC.replace(order="pre")},
    "averaged": {"optimizer": lambda: SGD(0.1, use_ema=True, ema_momentum=0.5)},
}


def mirrored():
    [cpu] = tf.config.list_physical_devices("CPU")
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    strategy = distribution.make_strategy("mirrored")
    found = {"replicas": distribution.replicas_of(strategy)}
    for name, options in CASES.items():
        runs = []
        for where in (None, strategy):
            model = compiled(where, **options)
            runs.append((fitted(model, where), model.get_weights()))
        (one, weights), (two, others) = runs
        pairs = zip(weights, others, strict=True)
        apart = max(float(np.abs(a - b).max()) for a, b in pairs)
        found[name] = {"one": one, "two": two, "apart": apart}
    depth = compiled(strategy, SPEC.replace(survival=0.5), synchronized=False)
    found["batch-wise depth"] = fitted(depth, strategy)["loss"]
    found["short batches"] = short_batches(strategy)
    found["own statistics"] = own_statistics(strategy)
    found["refused"] = refusals(strategy)
    found["empty batch"] = empty_batch()
    print(json.dumps(found))


def short_batches(strategy):
    """33 images in batches of 16: the last has one image for two replicas."""
    model = compiled(strategy)
    history = fitted(model, strategy, images=33)
    alone = compiled(None)
    alone.set_weights(model.get_weights())
    return {
        "history": history,
        "steps": int(dataset(33, strategy, True).cardinality()),
        "two": model.evaluate(dataset(33, strategy, False), verbose=0),
        "one": alone.evaluate(dataset(33, None, False), verbose=0),
        "batches": [len(y) for _, y in dataset(33, strategy, False)],
    }


def own_statistics(strategy):
    """Not synchronized: what is validated must be what is saved."""
    model = compiled(strategy, synchronized=False)
    history = fitted(model, strategy)
    alone = compiled(None)
    alone.set_weights(model.get_weights())
    loss, _ = alone.evaluate(dataset(32, None, False), verbose=0)
    return {"validated": history["val_loss"][-1], "saved": loss}


def refusals(strategy):
    attempts = {
        "central": lambda: distribution.check_strategy(
            tf.distribute.experimental.CentralStorageStrategy()
        ),
        "steps": lambda: distribution.check_strategy(strategy, steps_per_execution=4),
        "clipping": lambda: distribution.check_strategy(strategy, clip_norm=1.0),
        "too few": lambda: dataset(2, strategy, False),
        "depth": lambda: compiled(strategy, SPEC.replace(survival=0.5)),
        "late": lambda: distribution.make_strategy("multiworker"),
    }
    os.environ.update(launch.environments(2)[0])
    return {name: line_of(attempt) for name, attempt in attempts.items()}


def line_of(attempt):
    try:
        attempt()
    except UserError as error:
        return str(error)
    return None


def empty_batch():
    """Channels of an empty batch's convolution: the reason for all of this."""
    convolve = tf.function(lambda x: tf.nn.conv2d(x, tf.ones((3, 3, 4, 8)), 1, "SAME"))
    return int(convolve(tf.zeros((0, 8, 8, 4))).shape[-1])


class Slow(keras.callbacks.Callback):
    """Gives time to be killed."""

    def on_epoch_end(self, epoch, logs=None):
        time.sleep(0.5)


class Failing(keras.callbacks.Callback):
    """The chief's disk is full."""

    def on_epoch_end(self, epoch, logs=None):
        raise UserError("folder: can't write to runs: No space left on device")


def worker(mode, folder):
    if mode == "uncorrected":
        multiworker.correct_fit = lambda: None
    strategy = distribution.make_strategy("auto", wait=float(os.environ["WAIT"]))
    chief = distribution.is_chief(strategy)
    extra = {"slow": [Slow()], "failing": [Failing()] if chief else []}.get(mode, [])
    with distribution.cooperating(strategy):
        model = compiled(
            strategy, recompute=mode == "recomputed", spec=SPEC.replace(order="pre")
        )
        if mode == "uncorrected":
            fitted(model, strategy)
            return
        history = fitted(
            model,
            strategy,
            epochs=RECIPE.epochs,
            callbacks=[*RECIPE.callbacks(folder if chief else None), *extra],
        )
        for name in ("learning_rate", "seconds"):  # of the chief, which keeps them
            history.pop(name, None)
        metrics = model.evaluate(dataset(33, strategy, False), verbose=0)
        weight = float(np.abs(model.get_weights()[0]).sum())
        rank = os.environ.get("LOCAL_RANK", "0")
        result = {
            "history": history,
            "metrics": metrics,
            "weight": weight,
        }
        (Path(folder).parent / f"rank-{rank}.json").write_text(json.dumps(result))
        if chief:
            time.sleep(3)  # the others wait for what it does alone
            model.save(Path(folder).parent / "saved.keras")


if __name__ == "__main__":
    try:
        {"mirrored": mirrored, "worker": worker}[sys.argv[1]](*sys.argv[2:])
    except UserError as error:
        sys.exit(f"Error: {error}")
