"""Latency of an exported model: by itself, and of a server under load.

    python -m benchmarks.serving models/mine/1
    python -m benchmarks.serving models/mine/1 --url grpc://HOST:8500/mine --rate 20

Where there is no TF Serving, `keras-resnet serve models/mine` speaks its
protocols, and prints its ports of gRPC and REST.

By itself it runs through TensorFlow's C API (`serving.NativeModel`). Against a server,
by default TF_SERVING_URL, requests of one image arrive at random, each at its time
whether or not earlier ones were answered (an open loop), and latency counts from then.
"""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import click
import numpy as np

from benchmarks import options, report
from keras_resnet.serving import Client, NativeModel, ServingError
from keras_resnet.serving.native import latencies

BATCHES = (1, 2, 4, 8, 16, 32)
RATES = (5.0, 10.0, 20.0, 40.0)
PERCENTILES = (50, 90, 99)
COLUMNS = {
    "case": ("case", ""),
    "batch": ("batch", ""),
    "rate asked, 1/s": ("rate", ".3g"),
    "p50, ms": ("p50", ".3g"),
    "p90, ms": ("p90", ".3g"),
    "p99, ms": ("p99", ".3g"),
    "images/s": ("images_per_second", ".3g"),
    "failed": ("failed", ""),
}


def summary(seconds):
    """Percentiles in milliseconds."""
    if not seconds:
        return {}
    return {f"p{p}": 1e3 * float(np.percentile(seconds, p)) for p in PERCENTILES}


def alone(version, shape, signatures, limit):
    """A record for each batch size."""
    model = NativeModel(version, signatures)
    for batch in BATCHES:
        random = np.random.default_rng(0)
        images = random.integers(0, 256, (batch, *shape), np.uint8)
        seconds = latencies(
            model, "serving_default", {"images": images}, runs=1000, limit=limit
        )
        click.echo(f"batch {batch}: {len(seconds)} requests", err=True)
        yield {
            "case": "C++ loader",
            "batch": batch,
            **summary(seconds),
            "images_per_second": batch * len(seconds) / sum(seconds),
        }


def open_loop(url, shape, rate, limit, seed=0):
    """A record of requests that arrive `rate` times a second for `limit` seconds."""
    random = np.random.default_rng(seed)
    gaps = random.exponential(1 / rate, max(1, round(rate * limit)))
    image = random.integers(0, 256, (1, *shape), np.uint8)
    seconds, failures, lock = [], [], threading.Lock()
    with Client(url, retries=0, timeout=60) as client:
        client.predict(image)

        def ask(due):
            try:
                client.predict(image)
            except ServingError as error:
                with lock:
                    failures.append(str(error))
                return
            with lock:
                seconds.append(time.perf_counter() - due)

        threads = []
        due = started = time.perf_counter()
        for gap in gaps:
            due += gap
            time.sleep(max(0.0, due - time.perf_counter()))
            threads.append(threading.Thread(target=ask, args=(due,)))
            threads[-1].start()
        for thread in threads:
            thread.join()
    click.echo(f"{rate:g} requests a second: {len(seconds)} answered", err=True)
    return {
        "case": "server",
        "batch": 1,
        "rate": rate,
        **summary(seconds),
        "images_per_second": len(seconds) / (time.perf_counter() - started),
        "failed": len(failures),
    }


@click.command()
@click.argument("version", type=click.Path(path_type=Path))
@click.option("--url", envvar="TF_SERVING_URL", help="Of a server, to put under load.")
@click.option("--rate", "rates", multiple=True, type=float, default=RATES)
@click.option("--limit", default=10.0, show_default=True, help="Seconds of each row.")
@options.out()
def main(version, url, rates, limit, out):
    """Measure the SavedModel of a version's folder, and a server that has it."""
    described = json.loads((version / "assets" / "model.json").read_text())
    shape = described["image_shape"]
    records = list(alone(version, shape, described["signatures"], limit))
    panels = {
        ("C++ loader", "images of a request"): {
            f"p{p}": [(record["batch"], record[f"p{p}"]) for record in records]
            for p in PERCENTILES
        }
    }
    if url:
        loads = [open_loop(url, shape, rate, limit) for rate in rates]
        records += loads
        answered = [record for record in loads if "p50" in record]
        if answered:
            panels["server, Poisson arrivals", "requests a second"] = {
                f"p{p}": [(record["rate"], record[f"p{p}"]) for record in answered]
                for p in PERCENTILES
            }
    for record in records:
        record["model"] = described["model"]
    title = f"Latency of {described['model']}"
    report.publish(out, title, COLUMNS, records)
    report.draw_lines(out, title, "milliseconds", panels)


if __name__ == "__main__":
    main()
