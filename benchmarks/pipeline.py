"""Photos to batches: images a second, ours beside other pipelines; and first starts.

    python -m benchmarks.pipeline [--torch PYTHON] [--threads N] [--repeats N]
    python -m benchmarks.pipeline --scale

JPEGs of 500x375 pixels and about 55 kB become batches of 64 at 224. All take an epoch
in turns, in one run; the least seconds count. Beside other work the time of the
processor tells more than that of the clock. `--torch` is a Python that has torch,
torchvision and timm. `--scale` lets ours have one thread, two and so on, each in a
process that may use so many cores. `--files N` measures how long it takes to load a
folder of N tiny JPEGs for the first time and again, and how much memory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
import numpy as np
from PIL import Image

from benchmarks import options, report
from benchmarks.report import Bars
from keras_resnet.data import Augment

SIDE, BATCH = 224, 64
DISTINCT, COUNT = 128, 2048  # photos, and links to them
LOADERS = Path(__file__).with_name("photo_loaders.py")
CROP = Augment(scale=(0.08, 1), flip=True)
OURS = {
    "crop, flip": CROP,
    "A3": Augment(
        scale=(0.08, 1), flip=True, policy="rand", policy_magnitude=0.6,
        mixup=0.1, cutmix=1.0,
    ),
    "256-480, lighting": Augment(resize=(256, 480), flip=True, lighting=0.1),
}  # fmt: skip
COLUMNS = {
    "pipeline": ("name", ""),
    "images a second": ("rate", ",.0f"),
    "processor ms an image": ("cost", ".2f"),
    "times ours": ("share", ".2f"),
}
Epoch = Callable[[], tuple[float, float, int]]  # seconds, of all threads, images


def timed(dataset: Any) -> tuple[float, float, int]:
    """An epoch of batches."""
    started, before = time.perf_counter(), time.process_time()
    count = sum(
        len(batch[0] if isinstance(batch, tuple) else batch) for batch in dataset
    )
    return time.perf_counter() - started, time.process_time() - before, count


def write_photos(folder: Path) -> None:
    """Noise of several scales, which compresses as photos do."""
    random = np.random.default_rng(0)
    for i in range(DISTINCT):
        photo = np.full((375, 500, 3), 128.0)
        for octave in range(1, 8):
            size = (500 // 2 ** (8 - octave) + 2, 375 // 2 ** (8 - octave) + 2)
            noise = random.normal(128, 45, (*size[::-1], 3)).clip(0, 255)
            small = Image.fromarray(noise.astype(np.uint8))
            grown = small.resize((500, 375), Image.Resampling.BICUBIC)
            photo += (np.asarray(grown, float) - 128) / 1.25**octave
        place = folder / "ab"[i % 2]
        place.mkdir(parents=True, exist_ok=True)
        first = place / f"{i:04}.jpg"
        Image.fromarray(photo.clip(0, 255).astype(np.uint8)).save(first, quality=86)
        for copy in range(1, COUNT // DISTINCT):
            os.link(first, place / f"{i:04}-{copy}.jpg")


def ours(folder: Path, augment: Augment, **loading: Any) -> Epoch:
    """`data.load`, every image decoded when it is needed."""
    from keras_resnet import data

    splits = data.load(
        f"folder:{folder}", augment=augment, image_size=SIDE, batch_size=BATCH,
        **({"memory": 0} | loading),
    )  # fmt: skip

    return lambda: timed(splits.train)


def cached(folder: Path) -> Epoch:
    """The crops of `ours` from a cache, which is made here."""
    return ours(folder, CROP, cache=folder.parent / "cache")


def from_tfds(folder: Path) -> Epoch:
    """The same files in a data set of TFDS, prepared here."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    from keras_resnet import data

    tfds.disable_progress_bar()
    files = sorted(folder.glob("*/*.jpg"))
    place = folder.parent / "tfds"
    tfds.dataset_builders.store_as_tfds_dataset(
        name="photos",
        version="1.0.0",
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(encoding_format="jpeg"),
                "label": tfds.features.ClassLabel(names=["a", "b"]),
            }
        ),
        split_datasets={
            "train": tf.data.Dataset.from_tensor_slices(
                {
                    "image": [file.read_bytes() for file in files],
                    "label": ["ab".index(file.parent.name) for file in files],
                }
            )
        },
        data_dir=str(place),
    )
    splits = data.load(
        "tfds:photos", data_dir=place, augment=CROP, image_size=SIDE, batch_size=BATCH
    )
    return lambda: timed(splits.train)


def from_arrays() -> Epoch:
    """Crops of arrays of the batches' size."""
    from keras_resnet import data

    random = np.random.default_rng(0)
    images = random.integers(0, 256, (COUNT // 2, SIDE, SIDE, 3), np.uint8)
    splits = data.load(
        (images, np.arange(len(images)) % 2), augment=CROP, batch_size=BATCH
    )
    return lambda: timed(splits.train)


def native(folder: Path, threads: int, antialias: bool) -> Epoch:
    """What TensorFlow's own operations can do, the crop's box drawn as we do."""
    import tensorflow as tf

    files = sorted(map(str, folder.glob("*/*.jpg")))

    def one(path: Any) -> Any:
        content = tf.io.read_file(path)
        shape = tf.io.extract_jpeg_shape(content)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            shape,
            tf.zeros([0, 0, 4]),
            aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1),
            max_attempts=10,
            use_image_if_no_bounding_boxes=True,
        )
        box = tf.concat([begin[:2], size[:2]], axis=0)
        image = tf.image.decode_and_crop_jpeg(content, box, channels=3)
        image = tf.image.resize(image, (SIDE, SIDE), antialias=antialias)
        return tf.image.random_flip_left_right(tf.cast(image, tf.uint8))

    dataset = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files))
    dataset = dataset.map(one, num_parallel_calls=threads).batch(BATCH).prefetch(2)

    return lambda: timed(dataset)


def loader(python: Path, name: str, folder: Path, workers: int, stack: Any) -> Epoch:
    """A pipeline of `photo_loaders`, in the Python that has it."""
    process = stack.enter_context(
        subprocess.Popen(
            [python, LOADERS, name, folder, str(workers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    )
    click.echo(f"{name}: {process.stdout.readline().strip()}", err=True)

    def epoch() -> tuple[float, float, int]:
        process.stdin.write("\n")
        process.stdin.flush()
        seconds, spent, count = json.loads(process.stdout.readline())
        return seconds, spent, count

    stack.callback(process.stdin.close)
    return epoch


def photo_rates(
    folder: Path, python: Path | None, threads: int, repeats: int
) -> Iterator[dict[str, Any]]:
    """A record a pipeline, all measured in turns."""
    with ExitStack() as stack:
        epochs: dict[tuple[str, str], Epoch] = {}
        for name, augment in OURS.items():
            epochs[name, "ours"] = ours(folder, augment)
        epochs["crop, flip", "ours, from the cache"] = cached(folder)
        epochs["crop, flip", "ours, from TFDS"] = from_tfds(folder)
        epochs["crop, flip", "ours, from arrays"] = from_arrays()
        for antialias in (False, True):
            peer = "tf.data" + ", antialiased" * antialias
            epochs["crop, flip", peer] = native(folder, threads, antialias)
        for case, name in (("crop, flip", "torchvision"), ("A3", "timm")):
            if python:
                epochs[case, name] = loader(python, name, folder, threads, stack)
        rates: dict[tuple[str, str], float] = dict.fromkeys(epochs, 0.0)
        costs: dict[tuple[str, str], float] = dict.fromkeys(epochs, float("inf"))
        for turn in range(repeats + 1):  # the first one starts threads and processes
            for key, epoch in epochs.items():
                seconds, spent, count = epoch()
                if turn:
                    rates[key] = max(rates[key], count / seconds)
                    costs[key] = min(costs[key], 1e3 * spent / count)
    for (case, peer), rate in sorted(rates.items()):
        yield {
            "case": case,
            "name": f"{case}: {peer}",
            "peer": peer,
            "rate": rate,
            "cost": costs[case, peer],
            "share": costs[case, peer] / costs[case, "ours"],
        }


SCALE = """
import os, sys
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: int(sys.argv[2])])
from pathlib import Path
from benchmarks.pipeline import CROP, cached, ours
for epoch in (ours(Path(sys.argv[1]), CROP), cached(Path(sys.argv[1]))):
    epoch()
    rates = [count / seconds for seconds, _, count in (epoch() for _ in range(3))]
    print(max(rates))
"""


def scaling(folder: Path) -> Iterator[dict[str, Any]]:
    """Images a second of crops and flips by so many threads."""
    for threads in range(1, len(os.sched_getaffinity(0)) + 1):
        done = subprocess.run(
            [sys.executable, "-c", SCALE, str(folder), str(threads)],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        rate, cached_rate = map(float, done.stdout.split()[-2:])
        yield {"threads": threads, "rate": rate, "cached": cached_rate}


STARTS = """
import json, resource, sys, time
import tensorflow
from keras_resnet import data
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
started = time.perf_counter()
splits = data.load("folder:" + sys.argv[1], memory=0)
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
print(json.dumps([seconds, peak * 1024, sum(splits.counts.values())]))
"""


def starts(count: int) -> Iterator[dict[str, Any]]:
    """The first and the second load of so many tiny JPEGs, each in a new process."""
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        distinct = Path(folder, "distinct")
        distinct.mkdir()
        for i in range(300):
            pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
            Image.fromarray(pixels).save(distinct / f"{i}.jpg")
        sources = sorted(distinct.iterdir())
        for i in range(count):
            place = Path(folder, "photos", f"{i % 100:02}")
            if i < 100:
                place.mkdir(parents=True)
            os.link(sources[i % 300], place / f"{i:07}.jpg")
        environment = os.environ | {"XDG_CACHE_HOME": f"{folder}/cache"}
        for when in ("first", "second"):
            done = subprocess.run(
                [sys.executable, "-c", STARTS, f"{folder}/photos"],
                env=environment, capture_output=True, text=True, check=True,
            )  # fmt: skip
            seconds, peak, found = json.loads(done.stdout.splitlines()[-1])
            yield {
                "case": f"{found:,} JPEGs of 32 pixels",
                "peer": f"{when} start",
                "seconds": seconds,
                "megabytes": peak / 2**20,
            }


@click.command()
@click.option("--torch", "python", type=click.Path(path_type=Path), help="See above.")
@options.count("--threads", 2, "Of the peers; ours takes the machine's.")
@options.repeats(default=3)
@click.option("--scale", is_flag=True, help="See above.")
@click.option("--files", multiple=True, type=click.IntRange(300), help="See above.")
@options.out()
def main(
    python: Path | None,
    threads: int,
    repeats: int,
    scale: bool,
    files: tuple[int, ...],
    out: Path,
) -> None:
    """Compare pipelines of photos, or measure threads, or how a folder is loaded."""
    if files:
        columns = {
            "folder": ("case", ""),
            "start": ("peer", ""),
            "seconds": ("seconds", ".1f"),
            "MB above TensorFlow's": ("megabytes", ",.0f"),
        }
        records = [record for count in files for record in starts(count)]
        report.show("Loading a folder", columns, records)
        return
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place, "photos")
        write_photos(folder)
        if scale:
            columns = {
                "threads": ("threads", "d"),
                "images a second": ("rate", ",.0f"),
                "from the cache": ("cached", ",.0f"),
            }
            report.show("Crop and flip by threads", columns, list(scaling(folder)))
            return
        records = list(photo_rates(folder, python, threads, repeats))
    note = f"Best of {repeats} epochs of {COUNT} photos, in turns; {threads} threads."
    bars = Bars("images a second", "rate", "{rate:.0f}")
    report.publish(out, "Photos to batches", COLUMNS, records, note, bars=bars)


if __name__ == "__main__":
    main()
