"""Peers' pipelines of photos, in a Python of their own: nothing of ours is imported.

    python photo_loaders.py LOADER FOLDER THREADS

Prints a line of versions, then for each line on standard input one of the seconds that
an epoch takes, those of all its processes together, and its images.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from pathlib import Path
from typing import Any

SIDE, BATCH = 224, 64


def torchvision_loader(folder: str, workers: int) -> Any:
    """ImageFolder, crop by area and flip, in processes."""
    from torch.utils.data import DataLoader
    from torchvision import datasets, transforms

    change = transforms.Compose(
        [
            transforms.RandomResizedCrop(SIDE),
            transforms.RandomHorizontalFlip(),
            transforms.PILToTensor(),
        ]
    )
    return DataLoader(
        datasets.ImageFolder(folder, change),
        BATCH,
        shuffle=True,
        num_workers=workers,
        persistent_workers=True,
    )


def timm_loader(folder: str, workers: int) -> Any:
    """RandAugment of A3, in processes; mixup and cutmix on batches."""
    import torch
    from timm.data import Mixup, create_transform
    from torch.utils.data import DataLoader
    from torchvision import datasets

    change = create_transform(
        SIDE,
        is_training=True,
        auto_augment="rand-m6-mstd0.5-inc1",
        interpolation="bilinear",
    )
    mix = Mixup(mixup_alpha=0.1, cutmix_alpha=1.0, num_classes=2)
    loader = DataLoader(
        datasets.ImageFolder(folder, change),
        BATCH,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
    )

    class Mixed:
        def __iter__(self) -> Any:
            with torch.no_grad():
                for images, labels in loader:
                    yield mix(images, labels)

    return Mixed()


LOADERS = {"torchvision": torchvision_loader, "timm": timm_loader}


def main() -> None:
    import torch
    import torchvision

    loader = LOADERS[sys.argv[1]](sys.argv[2], int(sys.argv[3]))
    versions = {"torch": torch.__version__, "torchvision": torchvision.__version__}
    if sys.argv[1] == "timm":
        import timm

        versions["timm"] = timm.__version__
    print(json.dumps(versions), flush=True)
    for _ in sys.stdin:
        started, before = time.perf_counter(), processor_seconds()
        count = sum(len(labels) for _, labels in loader)
        spent = processor_seconds() - before
        print(json.dumps([time.perf_counter() - started, spent, count]), flush=True)


def processor_seconds() -> float:
    """Of this process and its workers."""
    ticks = os.sysconf("SC_CLK_TCK")
    workers = 0.0
    for worker in multiprocessing.active_children():
        fields = Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()
        workers += (int(fields[11]) + int(fields[12])) / ticks
    return time.process_time() + workers


if __name__ == "__main__":
    main()
