"""How data is loaded: the arguments of `load`, checked."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, get_args

from rich.console import Console

from keras_resnet.data.augment import Augment, Sampling
from keras_resnet.data.images import DataError
from keras_resnet.tasks import TASKS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Options:
    """The arguments of `load` but for the source, as it documents them."""

    batch_size: int = 128
    augment: Augment = dataclasses.field(default_factory=Augment)
    sampling: Sampling = "uniform"
    seed: int = 0
    split_seed: int | None = None
    image_size: Any = None
    test_size: Any = None
    train_images: int | None = None
    data_dir: Path | None = None
    download: bool = False
    strict: bool = False
    drop_remainder: bool = False
    memory: int = 2**30
    subfolders: bool | None = None
    cache: Path | None = None
    console: Console | None = None
    task: str = "classes"
    label_columns: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        counts = {"batch_size": self.batch_size, "train_images": self.train_images}
        for name, value in counts.items():
            if value is None and name == "train_images":
                continue
            if type(value) is not int or value < 1:
                raise DataError(f"{name}: {value!r} is not a positive integer")
        seeds = {"seed": self.seed, "split_seed": self.split_seed}
        for name, value in seeds.items():
            if value is None and name == "split_seed":
                continue
            if type(value) is not int or not 0 <= value < 2**32:
                raise DataError(
                    f"{name}: {value!r} is not an integer from 0 to 2**32 - 1"
                )
        if self.sampling not in get_args(Sampling):
            raise DataError(
                f"sampling: {self.sampling!r} is not one of "
                f"{', '.join(map(repr, get_args(Sampling)))}"
            )
        if self.task not in TASKS:
            raise DataError(
                f"task: {self.task!r} is not one of {', '.join(map(repr, TASKS))}"
            )
        if not isinstance(self.augment, Augment):
            raise DataError(
                f"augment: {self.augment!r} is not an Augment(pad=, flip=, ...)"
            )


def free_memory() -> int:
    """Bytes that can be had without swapping."""
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
        facts = dict(line.split(":", 1) for line in lines)
        return int(facts["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
