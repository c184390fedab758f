from __future__ import annotations

import pytest

from keras_resnet import figures
from keras_resnet.errors import RunFolderError
from keras_resnet.figures import Chart, Label


def test_labels_do_not_overlap():
    figure, axes = figures.new_figure()
    points = [(0, 0), (0.05, 0.02), (0.1, 0), (1, 1), (1.02, 1)]
    axes.scatter(*zip(*points, strict=True))
    figures.place_labels(axes, [Label(x, y, "a network", 4) for x, y in points])
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in axes.texts]
    for i, box in enumerate(boxes):
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_series_and_points_differ_by_more_than_color():
    lines = [figures.series(i, "") for i in range(20)]
    assert len({(line["color"], line["linestyle"]) for line in lines}) == 20
    groups = [figures.points(i, "") for i in range(10)]
    assert len({group["marker"] for group in groups}) == 10


def test_equal_numbers_make_equal_files(workplace):
    for stem in ("a/chart", "b/chart"):
        figure, axes = figures.new_figure(3, 2)
        axes.plot([1, 2], [3, 4])
        paths = figures.save(Chart(figure, ("x", "y"), [(1, 3)]), workplace / stem)
    assert [path.name for path in paths] == ["chart.png", "chart.svg", "chart.csv"]
    for path in paths:
        assert path.read_bytes() == (workplace / "a" / path.name).read_bytes()


def test_other_scripts_are_drawn_by_other_fonts(workplace):
    figure, axes = figures.new_figure(2, 1)
    # Not in DejaVu Sans, but in STIX.
    axes.set_title("a \N{MATHEMATICAL SCRIPT CAPITAL A}")
    figures.write_figure(workplace / "chart.png", figure)
    fonts = axes.title.get_fontfamily()
    assert fonts[0] == "sans-serif"
    assert len(fonts) == 2


def test_characters_that_no_font_has_are_told(workplace):
    figure, axes = figures.new_figure(2, 1)
    axes.set_title("a \U0010f000")  # of private use
    with pytest.warns(figures.FontWarning, match="no installed font has \U0010f000;"):
        figures.write_figure(workplace / "chart.png", figure)
    assert (workplace / "chart.png").exists()


def test_what_cannot_be_written_is_one_line(workplace):
    (workplace / "notes.txt").write_text("notes")
    figure, _ = figures.new_figure(2, 2)
    with pytest.raises(RunFolderError, match="can't write"):
        figures.write_figure(workplace / "notes.txt" / "chart.png", figure)


@pytest.mark.parametrize(
    ("name", "short"),
    [("cat", "cat"), ("a long name of a class 1", "a lo…ass 1"), ("$1", r"\$1")],
)
def test_names_are_cut_in_the_middle_and_are_no_formulas(name, short):
    assert figures.short_name(name, 10) == short
