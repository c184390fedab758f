"""The requests by which TF Serving warms a version up before it answers with it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

# The name that TF Serving looks for.
REQUESTS = Path("assets.extra") / "tf_serving_warmup_requests"
BATCHES = (1, 8)


def write_requests(path: Path, described: Mapping[str, Any], name: str) -> None:
    """Writes a request of each signature and batch size: gray images.

    Args:
        path: the version's folder.
        described: its `model.json`.
        name: the model's, by which it is served.
    """
    from tensorflow_serving.apis import (
        model_pb2,
        predict_pb2,
        prediction_log_pb2,
    )

    shape = [side or 64 for side in described["image_shape"]]
    (path / REQUESTS).parent.mkdir(exist_ok=True)
    with tf.io.TFRecordWriter(str(path / REQUESTS)) as writer:
        for signature, names in described["signatures"].items():
            for batch in BATCHES:
                if batch > described["max_batch"]:
                    continue
                [key] = names["inputs"]
                request = predict_pb2.PredictRequest(
                    model_spec=model_pb2.ModelSpec(name=name, signature_name=signature),
                    inputs={key: tf.make_tensor_proto(_gray(signature, batch, shape))},
                )
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                writer.write(log.SerializeToString())


def _gray(signature: str, batch: int, shape: list[int]) -> Any:
    """A batch of gray images as a signature takes them."""
    if signature == "image_bytes":
        file = io.BytesIO()
        Image.new("RGB", (shape[1], shape[0]), "gray").save(file, "PNG")
        return [file.getvalue()] * batch
    dtype = np.float32 if signature == "serving_float" else np.uint8
    return np.full((batch, *shape), 128, dtype)
