"""An experiment's report: its figures, a table, and a verdict on each claim."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from keras_resnet import files
from keras_resnet.experiments.claim_plots import FIGURES
from keras_resnet.experiments.claims import BudgetName, Experiment, ExperimentError
from keras_resnet.experiments.power import NOTE, needs, power_table
from keras_resnet.experiments.results import (
    MEASURES,
    Outcome,
    Row,
    collect,
    summarize,
)
from keras_resnet.experiments.scale import Setting, own_folder, resolve, setting_of
from keras_resnet.experiments.verdicts import Judged, judge
from keras_resnet.figures import save
from keras_resnet.run import Run
from keras_resnet.units import count

VERDICTS = "verdicts.csv"


class Report(NamedTuple):
    """The report of an experiment, which has been written.

    Attributes:
        rows: an arm each: means and spreads over the seeds.
        verdicts: a claim each.
        figures: PNG files; an SVG and the numbers as CSV lie beside each.
        page: a Markdown page of all of it; the verdicts lie beside it as CSV.
    """

    rows: list[Row]
    verdicts: list[Judged]
    figures: list[Path]
    page: Path


def report(
    experiment: Experiment | str,
    setting: Setting | BudgetName = "short",
    *,
    folder: Path = Path("runs/experiments"),
    out: Path | None = None,
    seeds: Sequence[int] | None = None,
) -> Report:
    """Writes the report of what has been run so far.

    Args:
        experiment: a name, or one's own.
        setting: in which its runs are, or the name of a budget.
        folder: of all settings.
        out: folder of the report; beside the runs if None.
        seeds: of these only; of all that are there if None.

    Raises:
        ExperimentError: nothing has been run, or the report can't be written.
    """
    experiment, setting = resolve(experiment, setting)
    outcomes = collect(experiment, setting, folder, seeds)
    if not outcomes:
        raise ExperimentError(
            f"experiment: {experiment.name} has no finished run in "
            f"{folder / setting.name}; run it first: "
            f"{command('run', experiment, setting)}"
        )
    out = out or own_folder(folder, setting, experiment)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ExperimentError(f"out: can't write to {out}: {error.strerror}") from None
    rows = summarize(outcomes)
    verdicts = [
        judge(claim, outcomes, setting.budget, experiment.effect_of(claim))
        for claim in experiment.claims
    ]
    figures = []
    for name in experiment.figures:
        chart = FIGURES[name](outcomes)
        if chart:
            figures.append(save(chart, out / name)[0])
    files.write_csv(
        out / VERDICTS,
        ("claim", "source", "measure", "verdict", "because"),
        [
            (j.claim.text, j.claim.source, j.claim.measure, j.verdict, j.reason)
            for j in verdicts
        ],
    )
    page = out / "README.md"
    files.write_text(
        page, _page(experiment, setting, outcomes, rows, verdicts, figures)
    )
    return Report(rows, verdicts, figures, page)


def command(verb: str, experiment: Experiment, setting: Setting) -> str:
    """The command line that runs or reports an experiment."""
    usual = setting_of(experiment, setting.budget)
    parts = ["keras-resnet", "experiment", verb, experiment.name]
    parts += ["--budget", setting.budget]
    for field in ("data", "image_size", "train_images", "steps"):
        value = getattr(setting, field)
        if value != getattr(usual, field) and value is not None:
            parts += [f"--{field.replace('_', '-')}", str(value)]
    return shlex.join(parts)


def _page(
    experiment: Experiment,
    setting: Setting,
    outcomes: Sequence[Outcome],
    rows: Sequence[Row],
    verdicts: Sequence[Judged],
    figures: Sequence[Path],
) -> str:
    """The report in Markdown."""
    seeds = sorted({outcome.seed for outcome in outcomes})
    parts = [
        f"# {experiment.title}",
        f"Source: {experiment.source}. Here: {setting.in_words()}; "
        f"seeds {', '.join(map(str, seeds))}.",
        experiment.note,
    ]
    if verdicts:
        parts += ["## Claims", _claims_table(verdicts), _TEST]
    if needed := needs(experiment, verdicts, outcomes):
        parts += ["## What it would take", markdown(power_table(needed)), NOTE]
    parts += ["## Runs", _runs_table(experiment, rows), _COLUMNS]
    if experiment.error_source and any(row.arm.error for row in rows):
        parts.append(f"The paper's errors: {experiment.error_source}.")
    failed = [outcome for outcome in outcomes if outcome.failed]
    parts += [
        f"- {outcome.arm.label}, seed {outcome.seed}: "
        + outcome.failed.partition("; try")[0]  # what follows names the run folder
        for outcome in failed
    ]
    parts += [f"![{path.stem}]({path.stem}.svg)" for path in figures]
    run, again = (command(verb, experiment, setting) for verb in ("run", "report"))
    parts += [
        "## Again",
        f"```\n{run} --seeds {len(seeds)}\n{again}\n```",
        _made_with(outcomes),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


_TEST = (
    "A claim is confirmed or contradicted where a two-sided Welch t-test over the "
    "seeds tells the two networks apart at the 5 % level (each claim by itself). No "
    "effect is one that two one-sided tests at this level show to be less than half of "
    "the paper's. Else the claim is undecided at this budget. Differences are counted "
    "as the claim has them: + is for it, - against it. In parentheses: their 95 % "
    "interval."
)
_COLUMNS = (
    "Means over the seeds ± standard deviation. Training and validation errors are the "
    "last epoch's, training's under augmentation and while weights move; test errors "
    "are those of the epoch with the lowest validation loss."
)


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """A table, whose first row is its head."""
    head, *others = (f"| {' | '.join(row)} |" for row in rows)
    return "\n".join([head, "|---" * len(rows[0]) + "|", *others])


def _claims_table(verdicts: Sequence[Judged]) -> str:
    rows = [("claim", "source", "verdict", "because")]
    rows += [
        (
            j.claim.text,
            j.claim.source,
            f"**{j.verdict}**",
            f"{MEASURES[j.claim.measure].label}: {j.reason}",
        )
        for j in verdicts
    ]
    return markdown(rows)


def columns_of(experiment: Experiment, rows: Sequence[Row]) -> list[str]:
    """Measures that runs have, in the order of the table."""
    had = {key for row in rows for key in row.means}
    forms = [key for key in MEASURES if key.startswith("form_")]
    wanted = ("train_error", "val_error", "test_error", *experiment.measures, *forms)
    return [key for key in dict.fromkeys(wanted) if key in had]


def text_of(row: Row, key: str) -> str:
    """A mean and its spread."""
    if key not in row.means:
        return ""
    measure = MEASURES[key]
    value, spread = measure.scale * row.means[key], measure.scale * row.spreads[key]
    if math.isinf(value):
        return "diverged"
    text = f"{value:{measure.form}}"
    return text if math.isnan(spread) else f"{text} ± {spread:{measure.form}}"


def _runs_table(experiment: Experiment, rows: Sequence[Row]) -> str:
    keys = columns_of(experiment, rows)
    with_paper = any(row.arm.error for row in rows)
    head = ["network", "seeds", "parameters", "multiply-adds"]
    head += [
        f"{MEASURES[key].label} ({MEASURES[key].unit})"
        if MEASURES[key].unit
        else MEASURES[key].label
        for key in keys
    ]
    head += ["the paper's (%)"] if with_paper else []
    lines = [head]
    for row in rows:
        cells = [row.arm.label, str(row.seeds)]
        cells += (
            [f"{row.params:,}", f"{row.macs / 1e6:.1f} M"] if row.macs else ["", ""]
        )
        cells += [text_of(row, key) for key in keys]
        if with_paper:
            cells.append(f"{row.arm.error:.2f}" if row.arm.error else "")
        lines.append(cells)
    return markdown(lines)


def _made_with(outcomes: Sequence[Outcome]) -> str:
    """Versions, machine and time of the runs."""
    done = [outcome for outcome in outcomes if not outcome.failed]
    if not done:
        return ""
    environment = Run(done[0].folder).environment
    versions = ", ".join(
        f"{name} {version}"
        for name, version in environment["versions"].items()
        if name in ("keras-residual", "tensorflow", "keras")
    )
    hours = sum(row["seconds"] for outcome in done for row in outcome.history) / 3600
    return (
        f"{versions}; {environment['processor']}, {environment['threads']} "
        f"thread{'s' * (environment['threads'] > 1)} a run; "
        f"{hours:.1f} hours of epochs for {count(len(done), 'run')}."
    )
