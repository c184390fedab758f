"""The sides of every comparison, and the process that one of them runs in.

A process is given a job as JSON, prepares it, says on one line that it is ready, and
then runs as many steps as each line on its standard input says, answering with their
seconds. It ends with its input. Frameworks are imported only by the jobs that use them.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from keras_resnet.spec import ResNetSpec

Run = Callable[[int], Any]  # some steps
Job = tuple[dict[str, Any], Run]  # facts to tell, and what to time
RATE, DECAY = 0.01, 1e-4  # of all optimizers, with momentum 0.9
ONEDNN = {"TF_ENABLE_ONEDNN_OPTS": "1"}
# glibc's malloc gives large blocks back to the system at once, and each step of torch
# pays for fresh pages; so set, it keeps them. TensorFlow has a pool of its own.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**36),
    "MALLOC_TRIM_THRESHOLD_": str(2**36),
    "MALLOC_TOP_PAD_": str(2**28),
}


class Peer(NamedTuple):
    """One side of a comparison.

    Attributes:
        prepare: a function of a module that makes a job.
        options: arguments of `prepare`.
        environment: of its process. TensorFlow is told to use oneDNN, as the package's
            commands do, or else decides by the processor.
    """

    prepare: Callable[..., Job]
    options: dict[str, Any]
    environment: Mapping[str, str] = MappingProxyType({})


def train_keras(
    spec: ResNetSpec, batch: int, *, stock: bool = False, recompute: bool = False
) -> Job:
    """`fit` of our network, or of the same network in stock layers."""
    import keras
    import tensorflow as tf

    from keras_resnet import build, optimizers
    from keras_resnet.surgery import to_stock

    data = tf.data.Dataset.from_tensors(_examples(spec, batch)).repeat()
    # The tuner of tf.data sleeps for ever longer, and the end of `fit` may wait for it:
    # up to twice the time of the steps.
    options = tf.data.Options()
    options.autotune.enabled = False
    data = data.with_options(options)
    started = time.perf_counter()
    model = build(spec, **({"recompute": True} if recompute else {}))
    if stock:
        # A clone of stock layers takes as long as a network built of them.
        started = time.perf_counter()
        model = to_stock(model)
        optimizer = keras.optimizers.SGD(RATE, momentum=0.9, weight_decay=DECAY)
    else:
        optimizer = optimizers.SGD(RATE, momentum=0.9, l2=DECAY)
    built = time.perf_counter()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, jit_compile="auto" if stock else False)

    def run(steps: int) -> None:
        model.fit(data, steps_per_epoch=steps, verbose=0)

    run(1)
    first_step = time.perf_counter() - built
    return onednn() | {"build": built - started, "first_step": first_step}, run


def train_torch(spec: ResNetSpec, batch: int, *, compiled: bool = False) -> Job:
    """The usual loop, eager or compiled, in channels-last memory."""
    import torch
    import torch._dynamo  # which the first optimizer would import

    from benchmarks import torch_nets

    x, y = map(torch.from_numpy, _examples(spec, batch))
    x = torch_nets.images(x)
    started = time.perf_counter()
    net = torch_nets.network(spec)
    optimizer = torch.optim.SGD(
        net.parameters(), RATE, momentum=0.9, weight_decay=DECAY, fused=True
    )
    forward = torch.compile(net) if compiled else net
    built = time.perf_counter()

    def run(steps: int) -> None:
        for _ in range(steps):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(forward(x), y).backward()
            optimizer.step()

    run(1)
    first_step = time.perf_counter() - built
    return {"build": built - started, "first_step": first_step}, run


def save(spec: ResNetSpec, *, stock: bool = False) -> Job:
    """Seconds of saving, loading and exporting, once each: all is in the facts."""
    import keras

    from keras_resnet import build
    from keras_resnet.serving import export
    from keras_resnet.surgery import to_stock

    model = build(spec)
    if stock:
        model = to_stock(model)
    with tempfile.TemporaryDirectory() as folder:
        file, exported = f"{folder}/model.keras", f"{folder}/exported"
        calls = {
            "save": lambda: model.save(file),
            "load": lambda: keras.saving.load_model(file),
            "export": lambda: (
                model.export(exported, verbose=False)
                if stock
                else export(model, exported, check=False)
            ),
        }
        facts = {what: _seconds(call) for what, call in calls.items()}
    return facts, repeated(lambda: None)


def multiply_torch(side: int) -> Job:
    """A product of two square float32 matrices."""
    import torch

    a, b = torch.randn(2, side, side)
    return {}, repeated(lambda: a @ b)


def multiply_tensorflow(side: int) -> Job:
    """The same in TensorFlow."""
    import tensorflow as tf

    a, b = (tf.random.stateless_normal((side, side), (0, seed)) for seed in (0, 1))
    return onednn(), repeated(lambda: tf.matmul(a, b))


def wait() -> Job:
    """No work: reports what TensorFlow does by itself."""
    return onednn(), repeated(lambda: None)


UNTOUCHED = Peer(wait, {})

TRAINING = {
    "ours": Peer(train_keras, {}, ONEDNN),
    "ours+recompute": Peer(train_keras, {"recompute": True}, ONEDNN),
    "stock": Peer(train_keras, {"stock": True}),
    "stock+onednn": Peer(train_keras, {"stock": True}, ONEDNN),
    "torch": Peer(train_torch, {}),
    "torch.compile": Peer(train_torch, {"compiled": True}),
    "torch+malloc": Peer(train_torch, {}, KEEP_MEMORY),
    "torch.compile+malloc": Peer(train_torch, {"compiled": True}, KEEP_MEMORY),
}
SAVING = {"ours": Peer(save, {}, ONEDNN), "stock": Peer(save, {"stock": True})}
PRODUCTS = {
    "torch product": Peer(multiply_torch, {}),
    "tensorflow product": Peer(multiply_tensorflow, {}, ONEDNN),
}


def _examples(spec: ResNetSpec, batch: int) -> tuple[Any, Any]:
    """One constant batch of images and labels."""
    import numpy as np

    random = np.random.default_rng(0)
    images = random.normal(size=(batch, *spec.input_shape)).astype("float32")
    return images, np.arange(batch) % spec.classes


def onednn() -> dict[str, Any]:
    """Whether TensorFlow uses oneDNN here."""
    from tensorflow.python.util import _pywrap_util_port

    return {"onednn": bool(_pywrap_util_port.IsMklEnabled())}


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def repeated(call: Callable[[], Any]) -> Run:
    """Steps of one call, which is made once now to trace and compile."""
    call()

    def run(steps: int) -> None:
        for _ in range(steps):
            call()

    return run


def _peak() -> int:
    """The most memory that this process held so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def main() -> None:
    # What frameworks print must not mix with the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def answer(**fields: Any) -> None:
        print(json.dumps(fields), file=answers, flush=True)

    try:
        job = json.loads(sys.argv[1])
        arguments = job["arguments"]
        if "spec" in arguments:
            arguments["spec"] = ResNetSpec.from_dict(arguments["spec"])
        module = importlib.import_module(job["module"])
        facts, run = getattr(module, job["prepare"])(**arguments)
        answer(**facts)
        for line in sys.stdin:
            steps = int(line)
            seconds = _seconds(lambda steps=steps: run(steps))
            answer(seconds=seconds / steps, peak=_peak())
    except Exception as error:
        reason = f"{type(error).__name__}: {error}"
        answer(error=textwrap.shorten(reason, 80, placeholder=" ..."))


if __name__ == "__main__":
    main()
