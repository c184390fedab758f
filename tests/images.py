"""Small data sets to test with."""

from __future__ import annotations

import numpy as np
from PIL import Image


def arrays(dataset):
    """All images and labels of a data set."""
    images, labels = zip(*dataset.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def noise(count, shape=(8, 8, 3), seed=0):
    """Random images (count, *shape)."""
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), np.uint8)


def labels(count, classes=3):
    """0, 1, 2, 0, 1, ..."""
    return np.arange(count) % classes


def write_folder(root, counts, size=(20, 12), form="png", seed=0):
    """Image files `root/name/i.form` by {name: count}; their (n, height, width, 3)."""
    random = np.random.default_rng(seed)
    written = []
    for name, count in counts.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            pixels = random.integers(0, 256, (size[1], size[0], 3), np.uint8)
            Image.fromarray(pixels).save(root / name / f"{i:03}.{form}")
            written.append(pixels)
    return np.stack(written)
