"""The latency of a network: of its export, for one image, on this machine."""

from __future__ import annotations

import contextlib
import hashlib
import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from keras_resnet import files, serving
from keras_resnet.spec import ResNetSpec

IMAGES = 32  # of noise, that int8 is calibrated by
RUNS = 50  # the median of which is the latency
CACHE = "latency"  # in a search's folder: a file for each network


class Export(NamedTuple):
    """How a network will be served, which its latency is measured of.

    Attributes:
        format: of `serving.export`.
        quantize: None, "int8" or "float16".
    """

    format: str = "saved_model"
    quantize: str | None = None


def measure_latency(
    model: Any, spec: ResNetSpec, export: Export, search: Path
) -> float:
    """Seconds that the export of a model takes for an image; once for each network.

    Weights have no influence on it, and neither has what int8 is calibrated by.

    Args:
        model: of the network, built.
        spec: of the network.
        export: what is measured.
        search: the folder that keeps what was measured.
    """
    path = _place(spec, export, search)
    known = known_latency(spec, export, search)
    if known is not None:
        return known
    shape = (IMAGES, *(side or 1 for side in spec.input_shape))
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    # Quantizers show their progress.
    progress = contextlib.redirect_stderr(io.StringIO())
    with progress, tempfile.TemporaryDirectory() as folder:
        written = serving.export(
            model, folder, format=export.format, quantize=export.quantize,
            images=images, force=True, check=False,
        )  # fmt: skip
        seconds = median_time(serving.load(written).predict, images[:1])
    path.parent.mkdir(exist_ok=True)
    files.write_json(path, {"seconds": seconds, "network": spec.to_json()})
    return seconds


def known_latency(spec: ResNetSpec, export: Export, search: Path) -> float | None:
    """What was measured of a network; None if nothing was."""
    path = _place(spec, export, search)
    return float(files.read_json(path)["seconds"]) if path.exists() else None


def _place(spec: ResNetSpec, export: Export, search: Path) -> Path:
    """The file of a network: of its weights and name nothing matters."""
    named = spec.replace(name="any", survival=1.0).to_json() + " ".join(
        each for each in export if each not in (None, Export().format)
    )
    digest = hashlib.sha256(named.encode()).hexdigest()[:16]
    return search / CACHE / f"{digest}.json"


def median_time(
    predict: Callable[[np.ndarray], np.ndarray], image: np.ndarray
) -> float:
    """Seconds that an export takes for an image, the median of `RUNS`."""
    times = []
    for _ in range(RUNS + RUNS // 5):
        began = time.perf_counter()
        predict(image)
        times.append(time.perf_counter() - began)
    return statistics.median(times[-RUNS:])  # the first ones warm up
