"""The text that travels with a model: what it predicts, what its score is worth, what it must not be used for.

Begin at `model_card`; each section is one function below it, in the card's order.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ferray.data.store import SPLITS, Manifest
from ferray.recipe import Recipe, to_values
from ferray.records import EpochResult
from ferray.report.axes import in_words, value_text


def model_card(
    *,
    name: str,
    recipe: Recipe,
    class_names: Sequence[str],
    manifest: Manifest,
    metrics: Mapping[str, Any] | None,
    num_trials: int,
    validation: EpochResult,
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
        metrics: From `Scores.to_json`, of the test split; None where there is none.
        num_trials: Trials that the model was chosen from.
        validation: The epoch that it was chosen for.
        search_command: That made it.
        data_dir: The store's folder.
        weights: What the trunk started from: a name or a file.
    """
    sections = [
        _opening(name, class_names, manifest),
        _scores(class_names, metrics),
        _choice(recipe, num_trials, validation, metrics),
        _data(class_names, manifest),
        _recipe(recipe, weights),
        _preprocessing(recipe, class_names, manifest),
        _limits(manifest),
        _repeat(name, search_command, data_dir, metrics),
    ]
    return "\n\n".join(sections) + "\n"


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
        return "## Test score\n\nNot tested: the store has no test faces."
    rows = [
        f"| {title} | {metrics[key]:.4f} | {metrics['intervals'][key][0]:.4f} to {metrics['intervals'][key][1]:.4f} |"
        for key, title in (
            ("accuracy", "**accuracy**"),
            ("balanced_accuracy", "balanced accuracy"),
            ("macro_f1", "macro F1"),
        )
    ]
    baselines = metrics["baselines"]
    rows += [
        f"| {title} | {baselines[key]:.4f} | |"
        for key, title in (
            ("majority", "*accuracy of always answering the most frequent training class*"),
            ("constant_guess", "*accuracy of the best constant answer on these faces*"),
            ("chance", "*accuracy of a random answer*"),
        )
        if baselines[key] is not None
    ]
    table = "\n".join(rows)
    recalls = "\n".join(_recall(place, class_names, metrics["confusion"]) for place in range(len(class_names)))
    return f"""## Test score

{metrics["n"]:,} faces of {metrics["groups"]:,} photographs, which neither training nor the choice of the model saw.

| | score | 95 % interval |
| --- | --- | --- |
{table}

The intervals come from {metrics["resamples"]:,} bootstrap draws of whole photographs. They tell how far the choice of
test faces moves the score, not how far another seed or another data set would.

| class | test faces | recall | most often mistaken for |
| --- | --- | --- | --- |
{recalls}"""


def _recall(place: int, class_names: Sequence[str], confusion: Sequence[Sequence[int]]) -> str:
    """A class's row of the table: how much of it was found, and what the rest was taken for."""
    row, total = confusion[place], sum(confusion[place])
    recall = f"{row[place] / total:.3f}" if total else "no faces"
    missed = [0 if other == place else count for other, count in enumerate(row)]
    worst = class_names[missed.index(max(missed))] if any(missed) else ""
    return f"| {class_names[place]} | {total:,} | {recall} | {worst} |"


def _choice(recipe: Recipe, num_trials: int, validation: EpochResult, metrics: Mapping[str, Any] | None) -> str:
    score = getattr(validation, recipe.monitor)
    trials = "one trial" if num_trials == 1 else f"{num_trials} trials"
    tested = "" if metrics is None else " The test split was not used to choose."
    return f"""## How it was chosen

It is the best epoch of {trials}, by {in_words(recipe.monitor)}: **{score:.4f}** in epoch {validation.epoch}
(validation accuracy {validation.val_accuracy:.4f}, balanced {validation.val_balanced_accuracy:.4f}, macro F1
{validation.val_macro_f1:.4f}, loss {validation.val_loss:.4f}). The best of many validation scores is optimistic: chance
helped to choose it. Compare models by the test score.{tested}"""


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
- The score holds for faces like those of its test split. On other cameras, ages, poses or cultures expect less; its
  probabilities are not calibrated.{expw if manifest.dataset == "expw" else ""}"""


def _repeat(name: str, search_command: str, data_dir: str | Path, metrics: Mapping[str, Any] | None) -> str:
    evaluate = f"python -m ferray.report evaluate runs/{name}/best --data {data_dir} --split test"
    test = "" if metrics is None else f"\n{evaluate}    # the test score"
    return f"""## How to repeat

```sh
{search_command}    # the search{test}
```"""
