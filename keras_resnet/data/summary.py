"""What was understood of a data set, in a table for the reader."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from keras_resnet.data.dataset import Splits

ROWS = 12  # classes that are listed one by one
LINES = 8  # of what is left out


def summary(
    splits: Splits, columns: Mapping[str, Sequence[float]] | None = None
) -> RenderableType:
    """Images by class and split, then what isn't read, and why.

    Args:
        splits: the data.
        columns: numbers for each class, to be shown beside, by their titles.
    """
    columns = columns or {}
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("images")
    for split in splits.counts:
        table.add_column(split, justify="right")
    for title in columns:
        table.add_column(title, justify="right")
    counts = splits.class_counts
    order = range(len(splits.class_names))
    listed = order if len(order) <= ROWS else ()
    if len(counts) == len(splits.counts):
        for label in listed:
            table.add_row(
                Text(splits.class_names[label]),
                *(f"{counts[split][label]:,}" for split in splits.counts),
                *(f"{numbers[label]:.3g}" for numbers in columns.values()),
            )
        if not listed:
            table.add_row(
                f"in each of {len(order):,} "
                f"{'labels' if splits.task == 'labels' else 'classes'}",
                *(f"{min(counts[s]):,} to {max(counts[s]):,}" for s in splits.counts),
                *(f"{min(n):.3g} to {max(n):.3g}" for n in columns.values()),
            )
    table.add_row("all", *(f"{count:,}" for count in splits.counts.values()))
    return Group(table, *map(Text, _lines(splits)))


def _lines(splits: Splits) -> list[str]:
    lines = []
    if splits.target_stats:
        lines += [
            f"{name}: mean {mean:.4g}, standard deviation {deviation:.4g} in training"
            for name, mean, deviation in zip(
                splits.class_names, *splits.target_stats, strict=True
            )
        ]
    for what, found in (
        ("unreadable", splits.unreadable),
        ("not read", splits.left_out),
        ("note", splits.notes),
    ):
        lines += [f"{what}: {line}" for line in found[:LINES]]
        if len(found) > LINES:
            lines.append(f"{what}: {len(found) - LINES:,} more, in data.json")
    return lines
