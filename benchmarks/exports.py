"""Export checks: how far exports are from their Keras models, and their latency.

    python -m benchmarks.exports [--case NAME]

Weights are initial, but batch norms have statistics, factors and offsets as training
may leave them. Each export is checked as `serving.export` does, through TensorFlow's
C++ loader in a process without Keras.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import click
import numpy as np

from benchmarks import report

CASES = (
    "cifar_plain20", "cifar_highway20", "cifar_resnet20", "cifar_resnet110_sd",
    "cifar_resnet164_v2", "wrn_16_4", "cifar_resnext29_8x64d", "resnet50_v1_5",
    "keras_resnet50_v2", "resnext50_32x4d",
)  # fmt: skip
COLUMNS = {
    "network": ("case", ""),
    "signature": ("signature", ""),
    "input": ("input", ""),
    "difference": ("difference", ".1e"),
    "ms, one image": ("milliseconds", ".3g"),
    "batch norms, left": ("norms", ""),
    "export, s": ("seconds", ".1f"),
    "MB": ("megabytes", ".1f"),
}


def trained(model, keras):
    """The model, with batch norms that do something."""
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.gamma.assign(random.uniform(0.5, 1.5, shape))
            layer.beta.assign(random.normal(0, 0.3, shape))
            layer.moving_mean.assign(random.normal(0, 0.3, shape))
            layer.moving_variance.assign(random.uniform(0.5, 2, shape))
    return model


def norms(model, keras):
    kind = keras.layers.BatchNormalization
    return sum(isinstance(layer, kind) for layer in model.layers)


@click.command()
@click.option("--case", "cases", multiple=True, default=CASES)
@report.out_option
def main(cases, out):
    """Export a network of each family and check it."""
    from keras_resnet import runtime

    runtime.prepare()
    import keras

    from keras_resnet import build, serving, surgery
    from keras_resnet.serving.check import CHECK

    records = []
    for case in cases:
        model = build(case, pixel_stats=([120.0] * 3, [60.0] * 3))
        trained(model, keras)
        left = norms(surgery.fold_batch_norm(model), keras)
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            path = serving.export(model, Path(folder) / "net")
            seconds = time.perf_counter() - started
            checked = json.loads((path / CHECK).read_text())
            size = sum(file.stat().st_size for file in path.rglob("*"))
        click.echo(f"{case}: {seconds:.1f} s", err=True)
        first = {
            "norms": f"{norms(model, keras)}, {left}",
            "seconds": seconds,
            "megabytes": size / 1e6,
        }
        for i, row in enumerate(checked["signatures"]):
            records.append({"case": case, **row, **(first if i == 0 else {})})
        keras.utils.clear_session()
    report.show("Export checks", COLUMNS, records)
    report.write(out, "exports", records)


if __name__ == "__main__":
    main()
