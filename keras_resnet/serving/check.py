"""Whether an export computes what its model does, in a process without Keras."""

from __future__ import annotations

import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from keras_resnet.data.image_files import CENTRAL, read_image
from keras_resnet.errors import ExportError, one_line
from keras_resnet.heads import Head
from keras_resnet.serving import native
from keras_resnet.serving.graph import is_float32, with_features
from keras_resnet.serving.runtimes import Served

SAMPLES = 8
LIMIT = 600  # seconds that the other process may take
RUNS, SECONDS = 30, 1.0  # that a latency is the median of, at most

# How far the same pixels may lead apart, of probabilities or of the largest feature.
EXACT = 1e-4
REDUCED = 5e-2  # under mixed precision, whose order of rounding is not the same
# Another decoder and another rounding of resized pixels.
DECODED = 1e-1


def check_export(
    path: Path,
    model: keras.Model,
    head: Head,
    samples: np.ndarray | None,
    signatures: Mapping[str, Any],
) -> dict[str, Any]:
    """Runs all signatures of a SavedModel in a clean process and compares.

    The process has TensorFlow's C++ loader (`serving.native`), neither Keras nor this
    package.

    Args:
        path: the SavedModel.
        model: what it was made from.
        head: how that ends; tried on what it puts out.
        samples: uint8 images (n, height, width, channels); made up if None.
        signatures: as `NativeModel` takes them.

    Returns:
        For each signature and kind of input the largest difference, and milliseconds
        for one image.

    Raises:
        ExportError: it doesn't load or run, or differs.
    """
    if samples is None:
        samples = _made_up(model.input_shape[1:])
    samples = samples[:SAMPLES]
    exact = _exact(model)
    requests = {
        f"{name}/images/pixels": samples.astype("f4" if "float" in name else "u1")
        for name in signatures
        if name != "image_bytes"
    }
    expected = {"pixels": _answers(model, head, samples)}
    limits = {"pixels": exact, "png": exact, "jpeg": max(exact, DECODED)}
    if "image_bytes" in signatures:
        larger = [_encoded(image, "JPEG", 1.5) for image in samples]
        read = [read_image(each, samples.shape[1:], CENTRAL) for each in larger]
        expected |= {
            "png": expected["pixels"],
            "jpeg": _answers(model, head, np.stack(read)),
        }
        requests |= {
            "image_bytes/image_bytes/png": _strings(
                [_encoded(image, "PNG") for image in samples]
            ),
            "image_bytes/image_bytes/jpeg": _strings(larger),
        }
    found = _run_elsewhere(path, signatures, requests)
    rows = []
    for request in requests:
        signature, _, case = request.split("/")
        row: dict[str, Any] = {
            "signature": signature,
            "input": case,
            "images": len(samples),
            "milliseconds": round(float(found[f"milliseconds/{signature}/{case}"]), 3),
        }
        for output in ("probabilities", "values", "features"):
            key = f"{signature}/{output}/{case}"
            if key not in found:
                continue
            wanted = expected[case][output]
            scale = max(1.0, float(np.nanmax(np.abs(wanted), initial=0)))
            both = np.isnan(wanted) & np.isnan(found[key])  # of a run that diverged
            apart = np.where(both, 0, np.abs(found[key] - wanted))
            row["difference"] = float(apart.max()) / scale
            # `not <=`, since NaN is neither.
            if not row["difference"] <= limits[case]:
                raise ExportError(
                    f"check: {signature} of the export gives {output} that differ by "
                    f"{row['difference']:.2g} from the model's, more than "
                    f"{limits[case]:g}; it is not published"
                )
        rows.append(row)
    return {"loader": "TensorFlow's C API", "allowed": limits, "signatures": rows}


def check_file(
    served: Served,
    model: keras.Model,
    head: Head,
    samples: np.ndarray | None,
    quantize: str | None,
) -> dict[str, Any]:
    """Runs an export by its own runtime and compares.

    Args:
        served: the export.
        model: what it was made from.
        head: how that ends.
        samples: uint8 images (n, height, width, channels); made up if None.
        quantize: "float16" may differ more, "int8" by anything: its accuracy counts.

    Returns:
        The greatest difference, the share of images whose likeliest class is the
        same, or all labels (not of values), and milliseconds of 1 and of 8 images.

    Raises:
        ExportError: it differs.
    """
    samples = _made_up(model.input_shape[1:]) if samples is None else samples
    expected = next(iter(_answers(model, head, samples).values()))
    try:
        found = served.predict(samples)
    except Exception as error:  # whatever a runtime raises
        raise ExportError(
            f"check: the export doesn't run: {one_line(error)}; it is not published"
        ) from None
    apart = np.where(np.isnan(expected) & np.isnan(found), 0, np.abs(expected - found))
    difference = float(apart.max()) / max(1.0, float(np.nanmax(np.abs(expected))))
    allowed = max(_exact(model), REDUCED if quantize else 0)
    if quantize != "int8" and not difference <= allowed:
        raise ExportError(
            f"check: the export differs by {difference:.2g} from the model, more than "
            f"{allowed:g}; it is not published"
        )
    agreement = {}
    if head.task != "regression":
        same = head.decide(expected) == head.decide(found)
        agreement["agreement"] = float(same.reshape(len(same), -1).all(-1).mean())
    return {
        "images": len(samples),
        "difference": difference,
        **agreement,
        "milliseconds": _latencies(served, samples),
    }


def _latencies(served: Served, images: np.ndarray) -> dict[str, float]:
    """Median milliseconds of a call, by its number of images."""
    found = {}
    for batch in (1, SAMPLES):
        pixels = np.resize(images, (batch, *images.shape[1:]))
        served.predict(pixels)
        seconds: list[float] = []
        while len(seconds) < RUNS and sum(seconds) < SECONDS:
            started = time.perf_counter()
            served.predict(pixels)
            seconds.append(time.perf_counter() - started)
        found[str(batch)] = round(1e3 * statistics.median(seconds), 3)
    return found


def _exact(model: keras.Model) -> float:
    """How far the same pixels may lead apart."""
    return EXACT if is_float32(model) else REDUCED


def _answers(
    model: keras.Model, head: Head, images: np.ndarray
) -> dict[str, np.ndarray]:
    """What the model itself gives."""
    with keras.device("cpu:0"):
        found = with_features(model)(images.astype("float32"), training=False)
        outputs = found.pop("outputs")
        head.check(model.name, outputs)
        name = "values" if head.task == "regression" else "probabilities"
        return {
            name: np.asarray(head.answers(outputs)),
            **{k: np.asarray(keras.ops.cast(v, "float32")) for k, v in found.items()},
        }


def _run_elsewhere(
    path: Path, signatures: Mapping[str, Any], requests: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    with tempfile.TemporaryDirectory() as folder:
        given, answered = Path(folder, "requests.npz"), Path(folder, "answers.npz")
        arrays: dict[str, Any] = {"signatures": json.dumps(signatures), **requests}
        np.savez(given, **arrays)
        try:
            done = subprocess.run(
                # Not from this package's folder, which would be on the path.
                [sys.executable, "-P", native.__file__, path, given, answered],
                # This process holds the memory of GPUs, and they round otherwise.
                env={
                    **os.environ,
                    "TF_CPP_MIN_LOG_LEVEL": "2",
                    "CUDA_VISIBLE_DEVICES": "",
                },
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ExportError(
                f"check: the export took more than {LIMIT} s; it is not published"
            ) from None
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[
                -1
            ]
            raise ExportError(
                f"check: the export doesn't run: {reason}; it is not published"
            )
        with np.load(answered, allow_pickle=True) as file:
            return dict(file)


def _made_up(shape: tuple[int | None, ...]) -> np.ndarray:
    """Smooth random pictures."""
    random = np.random.default_rng(0)
    sizes = [side or 64 for side in shape]
    if len(sizes) != 3:
        return random.integers(0, 256, (SAMPLES, *sizes), np.uint8)
    height, width, channels = sizes
    coarse = random.integers(0, 256, (SAMPLES, 4, 4, channels), np.uint8)
    smooth = keras.ops.image.resize(
        coarse.astype("float32"), (height, width), data_format="channels_last"
    )
    return np.asarray(smooth).round().astype(np.uint8)


def _encoded(image: np.ndarray, form: str, scale: float = 1) -> bytes:
    picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
    if scale != 1:
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    file = io.BytesIO()
    picture.save(file, form)
    return file.getvalue()


def _strings(texts: list[bytes]) -> np.ndarray:
    array = np.empty(len(texts), object)
    array[:] = texts
    return array
