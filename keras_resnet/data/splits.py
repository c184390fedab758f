"""Training, validation and test images: seeded, disjoint, stratified by class."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence

import numpy as np

from keras_resnet.data.images import DataError, Found, Images, Stream
from keras_resnet.data.index import DIGEST, Files, digest
from keras_resnet.units import count

TEST_SHARE = 0.2  # 360 of the digits
VAL_SHARE = 0.1  # of the rest: 144 of the digits; CIFAR's 5,000 of the papers
VAL_MOST = 10_000
MOST_CONFLICTS = 1000  # that are named
FEWEST = 10  # images that have no classes to be split by


def split(
    found: Found, seed: int, train_images: int | None = None
) -> dict[str, Images | Stream]:
    """Images for "train", "val" and "test".

    A source's own test split stays whole. Without one its validation split is the
    test, as ImageNet's is in the papers, and without that a fifth of the images.
    Validation is the source's own or, where that is missing or the test, a tenth of
    the training images, at most 10,000. Of what is left for training, `train_images`
    may keep a part.

    Raises:
        DataError: a class with too few images.
    """
    train, val, test = found.train, found.val, found.test
    if test is None:
        test, val = val, None
    if isinstance(train, Images):
        wanted = 1 + (test is None) + (val is None)
        _check_counts(train.labels, found.class_names, wanted)
        if test is None:
            size = _at_least(TEST_SHARE * train.count, found)
            train, test = _stratified(train, size, seed)
        if val is None:
            size = _at_least(min(VAL_SHARE * train.count, VAL_MOST), found)
            train, val = _stratified(train, size, seed)
        if train_images is not None and train_images < train.count:
            if train.labels.ndim == 1 and train_images < len(found.class_names):
                raise DataError(
                    f"train_images: {train_images} are fewer than the "
                    f"{len(found.class_names)} classes"
                )
            try:
                _, train = _stratified(train, train_images, seed, keep=0)
            except ValueError:  # scikit-learn's, of what would be left out
                raise DataError(
                    f"train_images: {train_images} of {train.count} leave out too few "
                    "to take each class in its share; name fewer, or all"
                ) from None
    else:
        # A stream is cut at a seeded place, and taken as if its ends were joined.
        start = int(np.random.default_rng(seed).integers(train.count))
        if test is None:
            train, test = _cut(train, start, math.ceil(TEST_SHARE * train.count))
            start = 0
        if val is None:
            size = math.ceil(min(VAL_SHARE * train.count, VAL_MOST))
            train, val = _cut(train, start, size)
            start = 0
        if train_images is not None and train_images < train.count:
            train = train.part(start, start + train_images)
    return {"train": train, "val": val, "test": test}


def _at_least(size: float, found: Found) -> int:
    """A whole number, so that each class can have one."""
    classes = found.class_names if found.train.labels.ndim == 1 else ()  # type: ignore[union-attr]
    return max(math.ceil(size), len(classes), 1)


def _stratified(
    images: Images, size: int, seed: int, keep: int = 1
) -> tuple[Images, Images]:
    """All but `size` images, and these: both of all classes, if `keep` of one stay.

    Images without a class, of several labels or numbers, are drawn by chance alone.
    """
    from sklearn.model_selection import train_test_split

    if images.labels.ndim > 1:
        rest, taken = train_test_split(
            np.arange(images.count), test_size=size, random_state=seed
        )
        return images.take(rest), images.take(taken)
    strata, counts = images.labels.copy(), np.bincount(images.labels)
    strata[counts[strata] == 1] = counts.argmax()  # scikit-learn wants two of each
    rest, taken = train_test_split(
        np.arange(images.count),
        test_size=size,
        stratify=strata,
        random_state=seed,
    )
    _complete(rest, taken, images.labels, keep)
    _complete(taken, rest, images.labels, 1)
    return images.take(rest), images.take(taken)


def _complete(
    giving: np.ndarray, given: np.ndarray, labels: np.ndarray, keep: int
) -> None:
    """Gives one part an image of each class that it lacks, for one of its commonest.

    A rare class's share may be less than an image. The other keeps `keep` of each.
    """
    for label in np.setdiff1d(labels[giving], labels[given]):
        theirs = np.flatnonzero(labels[giving] == label)
        commonest = np.bincount(labels[given]).argmax()
        ours = np.flatnonzero(labels[given] == commonest)
        if len(theirs) > keep and len(ours) > 1:
            i, j = theirs[0], ours[-1]
            giving[i], given[j] = given[j], giving[i]


def _cut(images: Stream, start: int, size: int) -> tuple[Stream, Stream]:
    """All but `size` images from `start`, and these."""
    stop = start + size
    return images.part(stop, start + images.count), images.part(start, stop)


def _check_counts(labels: np.ndarray, names: Sequence[str], wanted: int) -> None:
    if labels.ndim > 1:
        if len(labels) < FEWEST:
            raise DataError(
                f"data: {count(len(labels), 'training image')} are too few; give "
                f"{FEWEST} or more"
            )
        return
    counts = np.bincount(labels, minlength=len(names))
    if counts.min() < wanted:
        least = int(counts.argmin())
        raise DataError(
            f"data: class {names[least]} has {count(counts[least], 'image')}; {wanted} "
            "are needed, one for each split"
        )


def digests(parts: Mapping[str, Images | Stream]) -> dict[str, np.ndarray]:
    """What tells each image from the others, 16 bytes each, by split.

    Equal for equal images; of encoded ones the encoded bytes count. A stream has none.
    """
    return {
        name: _digests(images) if isinstance(images, Images) else _NONE
        for name, images in parts.items()
    }


_NONE = np.zeros(0, f"V{DIGEST}")


def _digests(images: Images) -> np.ndarray:
    if images.digests is not None:
        return images.digests
    found = [
        digest(each if isinstance(each, bytes) else each.tobytes())
        for each in images.pixels
    ]
    return np.frombuffer(b"".join(found), f"V{DIGEST}")


def count_duplicates(found: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Images that are in an earlier split too: {"test in train": 3}."""
    counts = {}
    names = list(found)
    for i, later in enumerate(names):
        for earlier in names[:i]:
            if count := count_common(found[later], found[earlier]):
                counts[f"{later} in {earlier}"] = count
    return counts


def files_of(parts: Mapping[str, Images | Stream]) -> dict[str, Sequence[str]]:
    """Paths of the images of each split, where they are files."""
    return {
        name: images.pixels
        for name, images in parts.items()
        if isinstance(images, Images) and isinstance(images.pixels, Files)
    }


def find_conflicts(
    parts: Mapping[str, Images | Stream],
    found: Mapping[str, np.ndarray],
    paths: Mapping[str, Sequence[str]],
) -> tuple[tuple[str, str], ...]:
    """Pairs of files that are the same image and have two labels: the first ones."""
    images = [part for part in parts.values() if isinstance(part, Images)]
    if len(paths) < len(parts):
        return ()
    values = np.concatenate([found[name].view(np.uint64)[::2] for name in parts])
    labels = np.concatenate([part.labels for part in images])
    if labels.ndim > 1:  # a number for each kind of row
        labels = np.unique(labels, axis=0, return_inverse=True)[1].ravel()
    order = np.lexsort((labels, values))
    same = values[order[1:]] == values[order[:-1]]
    other = labels[order[1:]] != labels[order[:-1]]
    places = np.flatnonzero(same & other)
    if not len(places):
        return ()
    ends = np.cumsum([part.count for part in images])

    def path(i: int) -> str:
        part = int(np.searchsorted(ends, i, side="right"))
        found: str = paths[list(parts)[part]][i - ends[part]]
        return found

    return tuple((path(order[i]), path(order[i + 1])) for i in places[:MOST_CONFLICTS])


def common(some: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Which of some images, by their digests, are among others."""
    # Eight bytes are enough, and integers are compared fast.
    asked, known = (found.view(np.uint64)[::2] for found in (some, others))
    return np.isin(asked, known)


def count_common(some: np.ndarray, others: np.ndarray) -> int:
    """How many of some images, by their digests, are among others."""
    return int(common(some, others).sum())


def fingerprint(
    found: Found,
    parts: Mapping[str, Images | Stream],
    digested: Mapping[str, np.ndarray],
) -> str:
    """What tells this data from other data, of whatever name: hexadecimal."""
    content = hashlib.blake2b(digest_size=16)
    content.update(repr((found.class_names, found.version)).encode())
    for name, images in parts.items():
        content.update(b"%s %d" % (name.encode(), images.count))
        content.update(digested[name].tobytes())
        if isinstance(images, Images):
            content.update(images.labels.tobytes())
    return content.hexdigest()
