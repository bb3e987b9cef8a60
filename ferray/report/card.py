"""The text that travels with a model: what it predicts, what its score is worth, what it must not be used for.

Begin at `model_card`; each section is one function below it, in the card's order.
"""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ferray.data.store.manifest import SPLITS, Manifest
from ferray.metrics.names import NAMES
from ferray.recipe import Recipe, to_values
from ferray.records.trial import EpochResult
from ferray.report.axes import in_words, value_text
from ferray.report.slices import worst_in_words


def model_card(
    *,
    name: str,
    recipe: Recipe,
    class_names: Sequence[str],
    manifest: Manifest,
    metrics: Mapping[str, Any] | None,
    num_trials: int,
    validation: EpochResult,
    verdict: Sequence[str] = (),
    search_command: str,
    data_dir: str | Path,
    weights: str,
) -> str:
    """The model card, in Markdown.

    Args:
        name: Of the search.
        recipe: That the model was trained with.
        class_names: In the order of the model's answers.
        manifest: Of the store that it was trained on.
        metrics: From `ferray.report.test_split.read_once.read_test_split`, or `Scores.to_json`, which leaves out the
            sections on probabilities and slices; None where there is no test split.
        num_trials: Trials that the model was chosen from.
        validation: The epoch that it was chosen for.
        verdict: How sure it is that it is the best, a sentence each.
        search_command: That made it.
        data_dir: The store's folder.
        weights: What the trunk started from: a name or a file.
    """
    sections = [
        _opening(name, class_names, manifest),
        _scores(class_names, metrics),
        _calibration(metrics),
        _slices(metrics),
        _choice(recipe, num_trials, validation, metrics, verdict),
        _data(class_names, manifest),
        _recipe(recipe, weights),
        _preprocessing(recipe, class_names, manifest),
        _limits(manifest),
        _repeat(name, search_command, data_dir, metrics),
    ]
    return "\n\n".join(section for section in sections if section is not None) + "\n"


def _opening(name: str, class_names: Sequence[str], manifest: Manifest) -> str:
    demo = (
        "\n\n> **Trained on demo faces.** Its accuracy means nothing for real faces."
        if manifest.dataset == "demo"
        else ""
    )
    return f"""# {name}: facial expressions, {len(class_names)} classes{demo}

Given a picture of one face, it predicts which of {len(class_names)} labels ({", ".join(class_names)}) an annotator
would give it. It does not tell what a person feels: the same face may hide or play an emotion, and annotators often
disagree.

For research only; see [Limits](#limits)."""


def _scores(class_names: Sequence[str], metrics: Mapping[str, Any] | None) -> str:
    if metrics is None or not metrics["n"]:
        return """## Test score

Not tested: the store has no test faces, or its test split was read for another model of this search before."""
    guesses = [
        (title, metrics["guesses"][key])
        for key, title in (
            ("majority", "always the most frequent training class"),
            ("constant_guess", "best constant answer on these faces"),
            ("chance", "equal probabilities"),
        )
        if metrics["guesses"][key] is not None
    ]
    head = "".join(f" | {title}" for title, _ in guesses)
    rows = []
    for name in NAMES:
        low, high = metrics["intervals"][name.key]
        title = f"**{name.title}**" if name.key == "accuracy" else name.title
        cells = "".join(f" | {guess[name.key]:.4f}" for _, guess in guesses)
        rows.append(f"| {title} | {metrics[name.key]:.4f} | {low:.4f} to {high:.4f}{cells} |")
    table = "\n".join(rows)
    recalls = "\n".join(_recall(place, class_names, metrics) for place in range(len(class_names)))
    return f"""## Test score

{metrics["n"]:,} faces of {metrics["groups"]:,} photographs, which neither training nor the choice of the model saw.
{_readings(metrics)}

| | this model | 95 % interval{head} |
| --- | --- | ---{" | ---" * len(guesses)} |
{table}

Top-1 accuracy is what is meant by accuracy elsewhere: faces whose most probable class is their label. One-vs-rest and
binary accuracy count every class of every face; guesses score high under them already, and neither is top-1 accuracy.

The intervals come from {metrics["resamples"]:,} bootstrap draws of whole photographs. They tell how far the choice of
test faces moves the score, not how far another seed or another data set would.

| class | test faces | recall | 95 % interval | most often mistaken for |
| --- | --- | --- | --- | --- |
{recalls}"""


def _readings(metrics: Mapping[str, Any]) -> str:
    readings = metrics.get("test_readings", 1)
    times = "once, for this model" if readings == 1 else f"{readings} times, this reading the last"
    return f"When this was written, the search had read the test split {times}; `search.json` has the list."


def _recall(place: int, class_names: Sequence[str], metrics: Mapping[str, Any]) -> str:
    """A class's row of the table: how much of it was found, and what the rest was taken for."""
    row, recall, interval = (metrics[key][place] for key in ("confusion", "recalls", "recall_intervals"))
    if recall is None:
        return f"| {class_names[place]} | 0 | no faces | | |"
    missed = [0 if other == place else count for other, count in enumerate(row)]
    worst = class_names[missed.index(max(missed))] if any(missed) else ""
    low, high = interval
    return f"| {class_names[place]} | {sum(row):,} | {recall:.3f} | {low:.3f} to {high:.3f} | {worst} |"


def _calibration(metrics: Mapping[str, Any] | None) -> str | None:
    if metrics is None or "calibration" not in metrics:
        return None
    calibration = metrics["calibration"]
    rows = "\n".join(
        f"| {title} | " + " | ".join(_with_interval(calibration[when], key) for when in ("before", "after")) + " |"
        for key, title in (
            ("ece", "expected calibration error"),
            ("nll", "negative log-likelihood (nats)"),
            ("brier", "Brier score (0 to 2)"),
            ("confidence", "mean confidence"),
        )
    )
    sure = "too sure of its answers" if calibration["temperature"] > 1 else "less sure of its answers than it could be"
    return f"""## Can its probabilities be believed?

As trained it is {sure}. Divided by a temperature of **{calibration["temperature"]:.3f}**, fitted on
{calibration["fitted_on"]:,} validation faces, its logits give the same answers with better probabilities; the exported
model does not divide by it.

| on the test split | as trained | with temperature |
| --- | --- | --- |
{rows}

`reliability.png` shows it; in 15 equally wide bins of the answer's probability. Brackets: 95 % intervals."""


def _with_interval(quality: Mapping[str, Any], key: str) -> str:
    low, high = quality["intervals"][key]
    return f"{quality[key]:.3f} [{low:.3f}, {high:.3f}]"


def _slices(metrics: Mapping[str, Any] | None) -> str | None:
    if metrics is None or not metrics.get("slices", {}).get("lowest"):
        return None
    slices = metrics["slices"]
    rows = "\n".join(
        f"| {in_words(one['column'])}: {one['value']} | {one['n']:,} | {one['accuracy']:.3f} |"
        f" {one['standardized']:.3f} [{one['standardized_interval'][0]:.3f}, {one['standardized_interval'][1]:.3f}] |"
        f" {one['gap']:+.3f} |"
        for one in slices["lowest"]
    )
    return f"""## Where it is weak

{textwrap.fill(worst_in_words(slices["worst"]), 120)}

The lowest of {slices["num"]} slices; `slices.csv` has all:

| slice | faces | top-1 | with the labels of all test faces | against all test faces |
| --- | --- | --- | --- | --- |
{rows}

A slice's own top-1 depends on which labels it holds; the next column weighs each class as the whole test split does."""


def _choice(
    recipe: Recipe,
    num_trials: int,
    validation: EpochResult,
    metrics: Mapping[str, Any] | None,
    verdict: Sequence[str],
) -> str:
    score = getattr(validation, recipe.monitor)
    trials = "one trial" if num_trials == 1 else f"one of {num_trials} trials"
    tested = "" if metrics is None else " The test split was not used to choose."
    sure = "".join(f"\n- {line[0].upper()}{line[1:]}." for line in verdict)
    sure = f"\n{sure}" if sure else ""
    return f"""## How it was chosen

It is the best epoch of {trials}, by {in_words(recipe.monitor)}: **{score:.4f}** in epoch {validation.epoch}
(validation accuracy {validation.val_accuracy:.4f}, balanced {validation.val_balanced_accuracy:.4f}, macro F1
{validation.val_macro_f1:.4f}, loss {validation.val_loss:.4f}). The best of many validation scores is optimistic: chance
helped to choose it. Compare models by the test score.{tested}{sure}"""


def _data(class_names: Sequence[str], manifest: Manifest) -> str:
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


def _preprocessing(recipe: Recipe, class_names: Sequence[str], manifest: Manifest) -> str:
    numbered = ", ".join(f"{place} {name}" for place, name in enumerate(class_names))
    return f"""## Preprocessing

Exactly as in `preprocessing.json`, or the score does not hold: a square around the face with a margin of
{manifest.margin:g} of its side on each side, padded and not squashed; RGB, not BGR;
{recipe.image_size} x {recipe.image_size} pixels. The model normalizes the colors itself.
Its answers are, in this order: {numbered}."""


def _limits(manifest: Manifest) -> str:
    expw = (
        "\n- ExpW may be used for research only. It holds web pictures of people who were not asked, children among"
        "\n  them: publish no pictures, crops or embeddings. Weights trained on it inherit the doubt.\n"
        "- The search words in ExpW's file names were typed by collectors. They are not annotations of people, and no"
        "\n  claim about groups of people follows from them."
    )
    return f"""## Limits

- Research only. Not for decisions about people.
- European Union: the AI Act, Regulation (EU) 2024/1689, Article 5(1)(f), prohibits placing on the market, putting into
  service for this purpose, or using AI to infer emotions of a person in the workplace or in education, except for
  medical or safety reasons, since 2 February 2025; other emotion recognition from biometric data is high-risk, with
  duties to inform people. This is a reader's summary and not legal advice.
- The score holds for faces like those of its test split. On other cameras, ages, poses or cultures expect less of it
  and of its probabilities.{expw if manifest.dataset == "expw" else ""}"""


def _repeat(name: str, search_command: str, data_dir: str | Path, metrics: Mapping[str, Any] | None) -> str:
    evaluate = f"python -m ferray.report evaluate runs/{name}/best --data {data_dir} --split test"
    test = "" if metrics is None else f"\n{evaluate}    # the test score"
    return f"""## How to repeat

```sh
{search_command}    # the search{test}
```"""
