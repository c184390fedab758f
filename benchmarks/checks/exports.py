"""Export checks: how far exports are from their Keras models.

    python -m benchmarks.checks.exports [--case NAME]

Weights are initial, but batch norms have statistics, factors and offsets as training
may leave them, and the classifier's are scaled so that no class is certain:
probabilities that are 0 and 1 would be equal whatever else differed. Each export is
checked as `serving.export` does, through TensorFlow's C++ loader in a process without
Keras: every signature, from pixels, PNG and a JPEG of another size.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import click

from benchmarks import options, report
from benchmarks.inference_peers import trained

CASES = (
    "cifar_plain20", "cifar_highway20", "cifar_resnet20", "cifar_resnet110_sd",
    "cifar_resnet164_v2", "wrn_16_4", "cifar_resnext29_8x64d", "resnet50_v1_5",
    "resnet50_d", "keras_resnet50_v2", "resnext50_32x4d",
)  # fmt: skip
COLUMNS = {
    "network": ("case", ""),
    "signatures": ("signatures", ""),
    "pixels, PNG: differs by": ("from_pixels", ".1e"),
    "JPEG: differs by": ("from_jpeg", ".1e"),
    "batch norms folded": ("folded", ""),
    "MB": ("megabytes", ".1f"),
}


def norms(model, keras):
    kind = keras.layers.BatchNormalization
    return sum(isinstance(layer, kind) for layer in model.layers)


def unsure(model, keras):
    """Scales the classifier: logits of random images have a deviation of one."""
    import numpy as np

    shape = (8, *model.input_shape[1:])
    images = np.random.default_rng(0).uniform(0, 255, shape).astype("float32")
    deviation = float(np.std(model.predict_on_batch(images)))
    dense = [x for x in model.layers if isinstance(x, keras.layers.Dense)][-1]
    for weight in dense.trainable_weights:
        weight.assign(weight / deviation)
    return model


@click.command()
@options.cases(CASES, CASES)
@options.out()
def main(cases, out):
    """Export a network of each family and check it."""
    from keras_resnet import runtime

    runtime.prepare()
    import keras

    from keras_resnet import build, serving, surgery
    from keras_resnet.serving.runtimes import CHECK

    records = []
    for case in cases:
        click.echo(case, err=True)
        model = trained(build(case, pixel_stats=([120.0] * 3, [60.0] * 3)))
        model = unsure(model, keras)
        before = norms(model, keras)
        left = norms(surgery.fold_batch_norm(model), keras)
        with tempfile.TemporaryDirectory() as folder:
            path = serving.export(model, Path(folder) / "net")
            rows = json.loads((path / CHECK).read_text())["signatures"]
            size = sum(file.stat().st_size for file in path.rglob("*"))
        jpeg = [row["difference"] for row in rows if row["input"] == "jpeg"]
        others = [row["difference"] for row in rows if row["input"] != "jpeg"]
        records.append(
            {
                "case": case,
                "signatures": len({row["signature"] for row in rows}),
                "from_pixels": max(others),
                "from_jpeg": max(jpeg),
                "folded": f"{before - left} of {before}",
                "megabytes": size / 1e6,
                "checks": rows,
            }
        )
        keras.utils.clear_session()
    report.publish(out, "Export checks", COLUMNS, records)


if __name__ == "__main__":
    main()
