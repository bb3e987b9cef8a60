"""The model card: what a model predicts, how reliable its score is, what it must not be used for.

Begin at `model_card`; each section is one function below it, in the card's order.
"""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from ferray.data.store.manifest import SPLITS, Manifest
from ferray.metrics.calibration import Calibration, ProbabilityErrors
from ferray.metrics.intervals import bracket_text, range_text
from ferray.metrics.names import SCORE_TITLES
from ferray.metrics.scores import Scores
from ferray.recipe import Recipe, to_values
from ferray.records.trial import EpochResult
from ferray.report.slices import worst_in_words
from ferray.report.test_split.recorded import RecordedScore, SliceSummary
from ferray.report.wording import in_words, value_text


@dataclass(frozen=True, kw_only=True)
class ModelOrigin:
    """The search that a model comes from."""

    search_name: str
    search_command: str
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
    evidence: Sequence[str] = ()
    """How certain it is that it is the best, one sentence each."""


def model_card(origin: ModelOrigin, selection: ModelSelection, manifest: Manifest, test: RecordedScore | None) -> str:
    """The model card, in Markdown.

    Args:
        origin: The search that the model comes from.
        selection: Its trial, and how it was selected.
        manifest: The store that it was trained on.
        test: Its test score; None where it has none.
    """
    sections = [
        _opening(origin, manifest),
        _no_test_score() if test is None else _test_score(test),
        None if test is None or test.calibration is None else _calibration(test.calibration),
        None if test is None or test.slices is None or not test.slices.lowest else _slices(test.slices),
        _selection(selection, is_tested=test is not None),
        _data(manifest),
        _recipe(selection.recipe, origin.weights),
        _preprocessing(selection.recipe, manifest),
        _limits(manifest),
        _repeat(origin, is_tested=test is not None),
    ]
    return "\n\n".join(section for section in sections if section is not None) + "\n"


def _opening(origin: ModelOrigin, manifest: Manifest) -> str:
    demo = (
        "\n\n> **Trained on demo faces.** Its accuracy means nothing for real faces."
        if manifest.dataset == "demo"
        else ""
    )
    names = manifest.class_names
    return f"""# {origin.search_name}: facial expressions, {len(names)} classes{demo}

For a picture of one face, the model predicts which of {len(names)} labels ({", ".join(names)}) an annotator
would give it. It does not tell what a person feels: a face may hide or play an emotion, and annotators often disagree.

For research only; see [Limits](#limits)."""


def _no_test_score() -> str:
    return """## Test score

Not tested: the store has no test faces, or its test split was read for another model of this search before."""


def _test_score(test: RecordedScore) -> str:
    scores = test.scores
    baselines = [
        (title, values)
        for key, title in (
            ("majority", "always the most frequent training class"),
            ("constant_guess", "best constant prediction on these faces"),
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
    recalls = "\n".join(_recall(place, scores) for place in range(len(scores.class_names)))
    return f"""## Test score

{scores.num_faces:,} faces of {scores.num_groups:,} photographs, used neither in training nor in choosing the model.
{_readings(test.num_readings)}

| | this model | 95 % interval{head} |
| --- | --- | ---{" | ---" * len(baselines)} |
{table}

Top-1 accuracy is what other sources call accuracy: the share of faces whose most probable class is their label.
One-vs-rest and binary accuracy count every class of every face. They are high even for the baselines on the right, and
neither is top-1 accuracy.

The intervals come from {scores.bootstrap.resamples:,} bootstrap draws of whole photographs. They show how much the
choice of the test faces moves the score, not how much another seed or another data set would.

| class | test faces | recall | 95 % interval | most often predicted instead |
| --- | --- | --- | --- | --- |
{recalls}"""


def _readings(num_readings: int) -> str:
    times = "once, for this model" if num_readings == 1 else f"{num_readings} times, the last time for this model"
    return f"When this was written, the search had read the test split {times}; `search.json` lists the readings."


def _recall(place: int, scores: Scores) -> str:
    """A class's row of the table: its recall, and the class that was most often predicted instead."""
    row, recall, interval = scores.confusion[place].tolist(), scores.recalls[place], scores.recall_intervals[place]
    if recall is None or interval is None:
        return f"| {scores.class_names[place]} | 0 | no faces | | |"
    missed = [0 if other == place else count for other, count in enumerate(row)]
    instead = scores.class_names[missed.index(max(missed))] if any(missed) else ""
    return f"| {scores.class_names[place]} | {sum(row):,} | {recall:.3f} | {range_text(interval, 3)} | {instead} |"


def _calibration(calibration: Calibration) -> str:
    rows = "\n".join(
        f"| {title} | {_error(calibration.before, key)} | {_error(calibration.after, key)} |"
        for key, title in (
            ("ece", "expected calibration error"),
            ("nll", "negative log-likelihood (nats)"),
            ("brier", "Brier score (0 to 2)"),
            ("confidence", "mean confidence"),
        )
    )
    state = "overconfident" if calibration.temperature > 1 else "underconfident"
    return f"""## Calibration of the probabilities

As trained, the model is {state}. If its logits are divided by a temperature of
**{calibration.temperature:.3f}**, fitted on {calibration.fitted_on:,} validation faces, it predicts the same classes
with better probabilities. The exported model does not divide by it.

| on the test split | as trained | with temperature |
| --- | --- | --- |
{rows}

`reliability.png` shows it in 15 equally wide bins of the predicted class's probability. Brackets: 95 % intervals."""


def _error(errors: ProbabilityErrors, key: str) -> str:
    return f"{getattr(errors, key):.3f} {bracket_text(errors.intervals[key], 3)}"


def _slices(slices: SliceSummary) -> str:
    rows = "\n".join(
        f"| {in_words(one.column)}: {one.value} | {one.n:,} | {one.accuracy:.3f} |"
        f" {one.standardized:.3f} {bracket_text(one.standardized_interval, 3)} | {one.gap:+.3f} |"
        for one in slices.lowest
    )
    return f"""## Where the model is weak

{textwrap.fill(worst_in_words(slices.worst), 120)}

The {len(slices.lowest)} lowest of {slices.num} slices; `slices.csv` has all:

| slice | faces | top-1 | with the labels of all test faces | against all test faces |
| --- | --- | --- | --- | --- |
{rows}

A slice's own top-1 accuracy depends on which labels it holds. In the next column each class has the weight that it has
in the whole test split."""


def _selection(selection: ModelSelection, *, is_tested: bool) -> str:
    epoch, monitor = selection.epoch, selection.recipe.monitor
    trials = "one trial" if selection.num_trials == 1 else f"one of {selection.num_trials} trials"
    tested = " The test split was not used to choose." if is_tested else ""
    text = (
        f"It is the best epoch of {trials}, by {in_words(monitor)}: **{getattr(epoch, monitor):.4f}** in epoch"
        f" {epoch.epoch} (validation accuracy {epoch.val_accuracy:.4f}, balanced {epoch.val_balanced_accuracy:.4f},"
        f" macro F1 {epoch.val_macro_f1:.4f}, loss {epoch.val_loss:.4f}). The best of many validation scores is"
        f" optimistic, because it was chosen for being high (selection bias). Compare models by the test score.{tested}"
    )
    evidence = "\n".join(f"- {line}." for line in selection.evidence)
    return "\n\n".join(["## How it was chosen", textwrap.fill(text, 120), *([evidence] if evidence else [])])


def _data(manifest: Manifest) -> str:
    class_names = manifest.class_names
    head = " | ".join(class_names)
    rows = "\n".join(
        f"| {split} | {' | '.join(f'{manifest.counts[split].get(name, 0):,}' for name in class_names)} |"
        f" {sum(manifest.counts[split].values()):,} |"
        for split in SPLITS
    )
    split = (
        "The split is the data set's own."
        if manifest.split is None
        else f"Split {'/'.join(f'{share:.0%}' for share in manifest.split)} by photograph, seed {manifest.seed}:"
        " faces of one photograph are in one split."
    )
    skipped = "; ".join(f"{reason}: {count:,}" for reason, count in manifest.skipped.items()) or "none"
    notes = "".join(f"\n- {note}" for note in manifest.notes)
    return f"""## Data

| {manifest.dataset} | {head} | all |
| --- |{" --- |" * (len(class_names) + 1)}
{rows}

{split}

- Rows of the source that were left out: {skipped}.
- Fingerprint: `{manifest.fingerprint}`; of the source: `{manifest.source_fingerprint}`.{notes}"""


def _recipe(recipe: Recipe, weights: str) -> str:
    rows = "\n".join(f"| {name} | {value_text(value)} |" for name, value in to_values(recipe).items())
    start = "random weights" if recipe.weights == "none" else f"`{weights}`"
    return f"""## Recipe

The trunk started from {start}.

| setting | value |
| --- | --- |
{rows}"""


def _preprocessing(recipe: Recipe, manifest: Manifest) -> str:
    numbered = ", ".join(f"{place} {name}" for place, name in enumerate(manifest.class_names))
    return f"""## Preprocessing

The score holds only for faces that are prepared as in `preprocessing.json`: a square around the face with a margin of
{manifest.margin:g} of its side on each side, padded and not squashed; RGB, not BGR;
{recipe.image_size} x {recipe.image_size} pixels. The model normalizes the colors itself.
Its outputs are, in this order: {numbered}."""


def _limits(manifest: Manifest) -> str:
    expw = (
        "\n- ExpW may be used for research only. It holds web pictures of people who were not asked, children among"
        "\n  them: publish no pictures, crops or embeddings. Whether this also limits its weights is unclear.\n"
        "- The search words in ExpW's file names were typed by collectors. They are not annotations of people, and they"
        "\n  support no claim about groups of people."
    )
    return f"""## Limits

- Research only. Not for decisions about people.
- European Union: the AI Act, Regulation (EU) 2024/1689, Article 5(1)(f), prohibits placing on the market, putting into
  service for this purpose, or using AI to infer emotions of a person in the workplace or in education, except for
  medical or safety reasons, since 2 February 2025; other emotion recognition from biometric data is high-risk, with
  duties to inform people. This is a reader's summary and not legal advice.
- The score holds for faces like those of its test split. For other cameras, ages, poses or cultures, expect a lower
  accuracy and worse probabilities.{expw if manifest.dataset == "expw" else ""}"""


def _repeat(origin: ModelOrigin, *, is_tested: bool) -> str:
    best_dir = f"runs/{origin.search_name}/best"
    evaluate = (
        f"\npython -m ferray.report evaluate {best_dir} --data {origin.data_dir} --split test    # the test score"
    )
    return f"""## How to repeat

```sh
{origin.search_command}    # the search{evaluate if is_tested else ""}
```"""
