"""The latency of a network: of its export, for one image, on this machine."""

from __future__ import annotations

import hashlib
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from keras_resnet import files, serving
from keras_resnet.spec import ResNetSpec

RUNS = 50  # the median of which is the latency
CACHE = "latency"  # in a search's folder: a file for each network


def measure_latency(model: Any, spec: ResNetSpec, search: Path) -> float:
    """Seconds that the export of a model takes for an image; once for each network.

    Weights have no influence on it.

    Args:
        model: of the network, built.
        spec: of the network.
        search: the folder that keeps what was measured.
    """
    named = spec.replace(name="any", survival=1.0).to_json()
    path = search / CACHE / f"{hashlib.sha256(named.encode()).hexdigest()[:16]}.json"
    if path.exists():
        return float(files.read_json(path)["seconds"])
    with tempfile.TemporaryDirectory() as folder:
        export = serving.export(model, folder, check=False)
        seconds = _time(export, spec)
    path.parent.mkdir(exist_ok=True)
    files.write_json(path, {"seconds": seconds, "network": named})
    return seconds


def _time(export: Path, spec: ResNetSpec) -> float:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(export))
    serve = loaded.signatures["serving_default"]
    images = tf.zeros((1, *spec.input_shape), tf.uint8)
    times = []
    for _ in range(RUNS + RUNS // 5):
        began = time.perf_counter()
        serve(images=images)["classes"].numpy()
        times.append(time.perf_counter() - began)
    return statistics.median(times[-RUNS:])  # the first ones warm up
