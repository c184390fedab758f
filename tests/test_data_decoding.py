from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from images import write_folder
from PIL import Image

from keras_resnet.data import Augment, decoding
from keras_resnet.data.decoding import make_batch
from keras_resnet.data.resizing import resize_part
from keras_resnet.data.transforms import draw_all

EVERYTHING = Augment(
    scale=(0.2, 1), flip=True, policy="rand", color=0.4, lighting=0.1, erase=0.5
)


def test_any_number_of_threads_makes_the_same_batch(tmp_path, monkeypatch):
    write_folder(tmp_path, {"a": 21}, size=(90, 70), form="jpg")
    files = sorted(map(str, (tmp_path / "a").iterdir()))
    drawn = [numbers.numpy() for numbers in draw_all(EVERYTHING, (3, 4), len(files))]
    batches = []
    for threads, chunk in ((1, 4), (2, 4), (5, 1), (3, 50)):
        with ThreadPoolExecutor(threads) as pool:
            monkeypatch.setattr(decoding, "_POOL", pool)
            monkeypatch.setattr(decoding, "CHUNK", chunk)
            batches.append(make_batch(files, (32, 32, 3), EVERYTHING, drawn, (9, 9, 9)))
    for batch in batches[1:]:
        np.testing.assert_array_equal(batch, batches[0])


@pytest.mark.parametrize("scale", [1.5, 1.9, 3.3])
def test_what_shrinks_has_no_aliases(scale):
    """Stripes vanish, and what is smooth is as Pillow's antialiasing has it."""
    side = round(64 * scale)
    stripes = np.zeros((side, side, 3), np.uint8)
    stripes[:, ::2] = 255  # finer than any pixel of the result
    part = resize_part(stripes, (0, 0, side, side), (64, 64)).astype(float)
    plain = Image.fromarray(stripes).resize((64, 64), Image.Resampling.NEAREST)
    assert part.std() < 0.3 * np.asarray(plain, float).std()
    random = np.random.default_rng(0)
    rough = Image.fromarray(random.integers(0, 256, (12, 12, 3), np.uint8))
    smooth = rough.resize((side, side), Image.Resampling.BICUBIC)
    part = resize_part(np.asarray(smooth), (0, 0, side, side), (64, 64)).astype(int)
    expected = np.asarray(smooth.resize((64, 64), Image.Resampling.BILINEAR), int)
    assert np.abs(part - expected).max() <= 4
    assert np.abs(part - expected).mean() < 0.8


def test_what_grows_is_pillows():
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    box = (4, 3, 24, 17)
    expected = Image.fromarray(image).resize((50, 40), Image.Resampling.BILINEAR, box)
    part = resize_part(image, box, (40, 50)).astype(int)
    # At the box' edge Pillow takes what is beyond it, if there is something.
    inner = np.abs(part - np.asarray(expected, int))[3:-3, 3:-3]
    assert inner.max() <= 2
