"""The model card: what a model predicts, how reliable its score is, what it must not be used for.

Begin at `model_card`; each section is one function below it, in the card's order.
"""

import math
import shlex
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from ferray.data.store.manifest import SPLITS, Manifest
from ferray.data.subject import EXPRESSIONS, Subject
from ferray.metrics.calibration import MAX_TEMPERATURE, Calibration, ProbabilityErrors
from ferray.metrics.intervals import bracket_text, range_text
from ferray.metrics.names import SCORE_TITLES
from ferray.metrics.scores import Scores
from ferray.recipe import Recipe, to_values
from ferray.records.trial import EpochResult
from ferray.report.expw_words import EXPW_LIMITS
from ferray.report.many_classes import MAX_NAMES, escape_cell, list_names, lowest_recalls
from ferray.report.slices import worst_in_words
from ferray.report.test_split.recorded import RecordedScore, SliceSummary
from ferray.report.wording import in_words, setting_text
from ferray.wording import count_of

MAX_ROWS = 50
"""Classes that a table has a row for."""


@dataclass(frozen=True, kw_only=True)
class ModelOrigin:
    """The search, or the single training run, that a model comes from."""

    name: str
    """Of the search, or of the run's folder."""
    kind: Literal["search", "training run"]
    command: str
    """That made the model."""
    best_dir: str
    """The model's folder."""
    data_dir: str
    """The store's folder."""
    weights: str
    """Name or file of the weights that the trunk started from."""


@dataclass(frozen=True, kw_only=True)
class ModelSelection:
    """The trial that a model was trained in, and how it was selected."""

    recipe: Recipe
    epoch: EpochResult
    """The trial's best epoch, whose weights the model has."""
    num_trials: int
    """Number of trials that it was selected from."""
    num_epochs: int
    """Epochs of its trial."""
    searched: Sequence[str] = ()
    """Names of the settings in which the trials could differ."""
    evidence: Sequence[str] = ()
    """How certain it is that it is the best, one sentence each."""


def model_card(origin: ModelOrigin, selection: ModelSelection, manifest: Manifest, test: RecordedScore | None) -> str:
    """The model card, in Markdown.

    Args:
        origin: Where the model comes from.
        selection: Its trial, and how it was selected.
        manifest: The store that it was trained on.
        test: Its test score; None where it has none.
    """
    shown = manifest.shown
    sections = [
        _opening(origin, manifest),
        _no_test_score(origin, manifest) if test is None else _test_score(test, shown),
        None if test is None or test.calibration is None else _calibration(test.calibration, test.scores, shown),
        None if test is None or test.slices is None or not test.slices.num else _slices(test.slices, shown),
        _selection(selection, num_readings=0 if test is None else test.num_readings),
        _data(manifest),
        _recipe(selection, origin.weights),
        _preprocessing(selection.recipe, manifest),
        _limits(manifest),
        _repeat(origin, manifest, is_tested=test is not None),
    ]
    return "\n\n".join(section for section in sections if section is not None) + "\n"


def _opening(origin: ModelOrigin, manifest: Manifest) -> str:
    warning = "\n\n> **Trained on demo faces.** Its accuracy means nothing for real faces."
    demo = warning if "demo" in manifest.datasets else ""
    names, shown = manifest.class_names, manifest.shown
    picture = "a picture of one face" if shown is EXPRESSIONS else "a picture"
    labels = f"{len(names)} labels ({list_names(names)})"
    what = f"For {picture}, the model predicts which of {labels} an annotator would give it. {shown.meaning}"
    use = "For research only; see [Limits](#limits)." if shown is EXPRESSIONS else "See [Limits](#limits)."
    return f"""# {origin.name}: {shown.title}, {len(names)} classes{demo}

{_fill(what)}

{use}"""


def _has_test_faces(manifest: Manifest) -> bool:
    return any(manifest.counts["test"].values())


def _no_test_score(origin: ModelOrigin, manifest: Manifest) -> str:
    if not _has_test_faces(manifest):
        reason = f"the store has no test {manifest.shown.nouns}"
    elif origin.kind == "search":
        reason = "the test split was read for another model of this search before"
    else:
        reason = "`ferray train` reads no test split; the last command below does"
    return f"""## Test score

Not tested: {reason}."""


def _test_score(test: RecordedScore, shown: Subject) -> str:
    scores, faces = test.scores, shown.nouns
    baselines = [
        (title, values)
        for key, title in (
            ("majority", "always the most frequent training class"),
            ("constant_guess", f"best constant prediction on these {faces}"),
            ("chance", "equal probabilities"),
        )
        if (values := scores.baselines[key]) is not None
    ]
    head = "".join(f" | {title}" for title, _ in baselines)
    rows = []
    for key, value in scores.values.items():
        if value is not None:
            title = f"**{SCORE_TITLES[key]}**" if key == "accuracy" else SCORE_TITLES[key]
            cells = "".join(f" | {values[key]:.4f}" for _, values in baselines)
            rows.append(f"| {title} | {value:.4f} | {range_text(scores.intervals[key])}{cells} |")
    table = "\n".join(rows)
    recalls = "\n".join(_recall(place, scores, faces) for place in lowest_recalls(scores, MAX_ROWS))
    return f"""## Test score

{_fill(_readings(test, shown))}

| | this model | 95 % interval{head} |
| --- | --- | ---{" | ---" * len(baselines)} |
{table}

Top-1 accuracy is what other sources call accuracy: the share of {faces} whose most probable class is their label.
{_fill(_other_accuracies(scores, shown))}

The intervals come from {scores.bootstrap.resamples:,} bootstrap draws of whole photographs; for a recall of 0 or 1,
which all draws repeat, they are Wilson's. They show how much the choice of the test {faces} moves the score, not how
much another seed or another data set would.{_left_out(scores)}

| class | test {faces} | recall | 95 % interval | most often predicted instead |
| --- | --- | --- | --- | --- |
{recalls}"""


def _readings(test: RecordedScore, shown: Subject) -> str:
    """What was read, how often, and whether that can have had a part in the choice of the model."""
    photographs = count_of(test.scores.num_groups, "photograph")
    faces = f"{count_of(test.scores.num_faces, shown.noun)} of {photographs}, not used in training"
    if test.num_readings == 1:
        return (
            f"{faces} and not in choosing the model: when this was written, the search had read the test split once,"
            " for this model; `search.json` lists the readings."
        )
    return (
        f"{faces}. When this was written, the search had read the test split {test.num_readings} times, the last time"
        " for this model; `search.json` lists the readings. Whoever saw the earlier scores may have searched further"
        " because of them, so this score may be too high."
    )


def _other_accuracies(scores: Scores, shown: Subject) -> str:
    """Why the other two accuracies are not what people call accuracy, by what they give to a baseline."""
    text = f"One-vs-rest and binary accuracy count every class of every {shown.noun}, and neither is top-1 accuracy"
    baseline = scores.baselines["constant_guess"]
    if baseline is None:
        return f"{text}."
    return (
        f"{text}: a constant prediction that is right for {baseline['accuracy']:.1%} of the {shown.nouns} has a"
        f" one-vs-rest accuracy of {baseline['one_vs_rest_accuracy']:.1%}."
    )


def _left_out(scores: Scores) -> str:
    num = len(scores.class_names)
    if num <= MAX_ROWS:
        return ""
    return f"\nThe table has the {MAX_ROWS} of {num:,} classes with the lowest recall; `metrics.json` has all."


def _recall(place: int, scores: Scores, nouns: str) -> str:
    """A class's row of the table: its recall, and the class that was most often predicted instead."""
    row, recall, interval = scores.confusion[place].tolist(), scores.recalls[place], scores.recall_intervals[place]
    name = escape_cell(scores.class_names[place])
    if recall is None or interval is None:
        return f"| {name} | 0 | no {nouns} | | |"
    missed = [0 if other == place else count for other, count in enumerate(row)]
    instead = escape_cell(scores.class_names[missed.index(max(missed))]) if any(missed) else ""
    return f"| {name} | {sum(row):,} | {recall:.3f} | {range_text(interval, 3)} | {instead} |"


_ERRORS = {"ece": "expected calibration error", "nll": "negative log-likelihood", "brier": "Brier score"}
"""The errors of probabilities, lower is better, by their key."""


def _calibration(calibration: Calibration, scores: Scores, shown: Subject) -> str:
    units = {"nll": " (nats)", "brier": " (0 to 2)"}
    titles = {key: title + units.get(key, "") for key, title in _ERRORS.items()} | {"confidence": "mean confidence"}
    rows = "\n".join(
        f"| {title} | {_error(calibration.before, key)} | {_error(calibration.after, key)} |"
        for key, title in titles.items()
    )
    return f"""## Calibration of the probabilities

{_fill(_confidence_in_words(calibration, scores))}

{_fill(_temperature_in_words(calibration, shown.noun))}

| on the test split | as trained | with temperature |
| --- | --- | --- |
{rows}

`reliability.png` shows it in 15 equally wide bins of the predicted class's probability. Brackets: 95 % intervals."""


def _confidence_in_words(calibration: Calibration, scores: Scores) -> str:
    """Whether the model is over- or underconfident on the test split, beyond the interval of its accuracy."""
    confidence, (low, high) = calibration.before.confidence, scores.intervals["accuracy"]
    state = (
        "it is overconfident" if confidence > high
        else "it is underconfident" if confidence < low
        else "no over- or underconfidence beyond the interval"
    )  # fmt: skip
    return (
        f"As trained, the model's mean confidence on the test split is {confidence:.3f}, and {scores.accuracy:.3f}"
        f" {bracket_text((low, high), 3)} of its predictions are correct: {state}."
    )


def _temperature_in_words(calibration: Calibration, noun: str) -> str:
    """The temperature, and which errors it lowers or raises on the test split, as the table shows them."""
    limits = (MAX_TEMPERATURE, 1 / MAX_TEMPERATURE)
    at_limit = " (the limit)" if any(math.isclose(calibration.temperature, one, rel_tol=1e-3) for one in limits) else ""
    changes: dict[str, list[str]] = {"lower": [], "higher": [], "the same": []}
    for key, title in _ERRORS.items():
        before, after = (round(getattr(one, key), 3) for one in (calibration.before, calibration.after))
        changes["lower" if after < before else "higher" if after > before else "the same"].append(title)
    parts = [
        f"{', '.join(titles)} {'are' if len(titles) > 1 else 'is'} {state}"
        for state, titles in changes.items()
        if titles
    ]
    advice = "" if changes["lower"] else " It does not help here."
    return (
        f"A temperature of **{calibration.temperature:.3f}**{at_limit} was fitted on"
        f" {count_of(calibration.fitted_on, f'validation {noun}')}. Logits divided by it give the same predicted"
        f" classes with other probabilities. On the test split with it: {'; '.join(parts)}.{advice} `ferray predict`"
        " divides by it; the exported tensors do not."
    )


def _error(errors: ProbabilityErrors, key: str) -> str:
    return f"{getattr(errors, key):.3f} {bracket_text(errors.intervals[key], 3)}"


def _slices(slices: SliceSummary, shown: Subject) -> str:
    rows = "\n".join(
        f"| {escape_cell(f'{in_words(one.column)}: {one.value}')} | {one.n:,} | {one.accuracy:.3f} |"
        f" {one.standardized:.3f} {bracket_text(one.standardized_interval, 3)} | {one.gap:+z.3f} |"
        for one in slices.lowest
    )
    if slices.worst is None:
        return f"## Where the model is weak\n\n{worst_in_words(None, shown)} `slices.csv` has what was scored."
    num, others = slices.worst.num_compared, slices.num - slices.worst.num_compared
    lowest = f"The {len(slices.lowest)} lowest of these {num:,} slices" if len(slices.lowest) < num else ""
    file = f"`slices.csv` has {f'all {slices.num:,}' if slices.num > 1 else 'it, too'}"
    left_out = f"; {count_of(others, 'other')} with too few of the labels cannot be compared" if others else ""
    return f"""## Where the model is weak

{_fill(worst_in_words(slices.worst, shown))}

{_fill(f"{lowest or count_of(num, 'slice')}; {file}{left_out}:")}

| slice | {shown.nouns} | top-1 | with the labels of all test {shown.nouns} | against all test {shown.nouns} |
| --- | --- | --- | --- | --- |
{rows}

A slice's own top-1 accuracy depends on which labels it holds. In the next column each class has the weight that it has
in the whole test split."""


def _selection(selection: ModelSelection, *, num_readings: int) -> str:
    epoch, monitor = selection.epoch, selection.recipe.monitor
    trials = "one trial" if selection.num_trials == 1 else f"one of {selection.num_trials:,} trials"
    values = (
        f"by {in_words(monitor)}: **{getattr(epoch, monitor):.4f}** in epoch {epoch.epoch} of {selection.num_epochs}"
        f" (validation accuracy {epoch.val_accuracy:.4f}, balanced {epoch.val_balanced_accuracy:.4f},"
        f" macro F1 {epoch.val_macro_f1:.4f}, loss {epoch.val_loss:.4f})."
    )
    optimism = (
        " It was the only one, so nothing was selected."
        if selection.num_trials == selection.num_epochs == 1
        else " The best of many validation scores is optimistic, because it was chosen for being"
        f" {'high' if selection.recipe.maximize else 'low'} (selection bias). Compare models by the test score."
    )
    tested = " The test split was not used to choose." if num_readings == 1 else ""
    evidence = "\n".join(f"- {line}." for line in selection.evidence)
    text = _fill(f"It is the best epoch of {trials}, {values}{optimism}{tested}")
    return "\n\n".join(["## How it was chosen", text, *([evidence] if evidence else [])])


def _data(manifest: Manifest) -> str:
    names = manifest.class_names if len(manifest.class_names) <= MAX_NAMES else ()
    head = "".join(f"{escape_cell(name)} | " for name in names)
    rows = "\n".join(
        f"| {split} | {''.join(f'{manifest.counts[split].get(name, 0):,} | ' for name in names)}"
        f"{sum(manifest.counts[split].values()):,} |"
        for split in SPLITS
    )
    split = (
        "The split is the data set's own."
        if manifest.split is None
        else f"Split {'/'.join(f'{100 * share:.6g}%' for share in manifest.split)} by photograph, seed {manifest.seed}:"
        f" {manifest.shown.nouns} of one photograph are in one split."
    )
    skipped = "; ".join(f"{reason}: {count:,}" for reason, count in manifest.skipped.items()) or "none"
    notes = "".join(f"\n- {note}" for note in manifest.notes)
    return f"""## Data

| {escape_cell(manifest.dataset)} | {head}all |
| --- |{" --- |" * (len(names) + 1)}
{rows}

{split}

- Rows of the source that were left out: {skipped}.
- Fingerprint: `{manifest.fingerprint}`; of the source: `{manifest.source_fingerprint}`.{notes}"""


def _recipe(selection: ModelSelection, weights: str) -> str:
    """The searched settings first, in bold; the others in the order of the class."""
    recipe = selection.recipe
    values = {name: setting_text(name, value) for name, value in to_values(recipe).items()}
    rows = [f"| **{name}** (searched) | **{values[name]}** |" for name in selection.searched]
    rows += [f"| {name} | {text} |" for name, text in values.items() if name not in selection.searched]
    table = "\n".join(rows)
    start = "random weights" if recipe.weights == "none" else f"`{weights}`"
    return f"""## Recipe

The trunk started from {start}.

| setting | value |
| --- | --- |
{table}"""


def _preprocessing(recipe: Recipe, manifest: Manifest) -> str:
    numbered = [f"{place} {name}" for place, name in enumerate(manifest.class_names)]
    place = "" if len(numbered) <= MAX_NAMES else "; `classes.json` lists all"
    shown = manifest.shown
    margin = f"a square around the {shown.noun} with a margin of\n{manifest.margin:g} of its side on each side"
    square = margin if shown is EXPRESSIONS or manifest.margin else "a square"
    is_resized = recipe.image_size not in (None, manifest.size_px)
    then = f", then {recipe.image_size} x {recipe.image_size}" if is_resized else ""
    return f"""## Preprocessing

The score holds only for {shown.nouns} that are prepared as in `preprocessing.json`: {square},
padded and not squashed; RGB, not BGR; {manifest.size_px} x {manifest.size_px} pixels{then}. The model normalizes the
colors itself. Its outputs are, in this order: {list_names(numbered)}{place}."""


def _limits(manifest: Manifest) -> str:
    limits = [*manifest.shown.limits, *(EXPW_LIMITS if "expw" in manifest.datasets else ())]
    return "## Limits\n\n" + "\n".join(f"- {one}" for one in limits)


def _repeat(origin: ModelOrigin, manifest: Manifest, *, is_tested: bool) -> str:
    lines = [f"{origin.command}    # the {origin.kind}"]
    best, data = shlex.quote(origin.best_dir), shlex.quote(origin.data_dir)
    evaluate = f"python -m ferray.report evaluate {best} --data {data} --split test"
    if is_tested:
        lines.append(f"{evaluate}    # the test score")
    elif origin.kind == "training run" and _has_test_faces(manifest):
        lines.append(f"{evaluate}    # a test score, once")
    commands = "\n".join(lines)
    return f"""## How to repeat

```sh
{commands}
```"""


def _fill(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)
