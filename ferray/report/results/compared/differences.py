"""What differs between searches, and what does not: data, versions, seeds, space, metric, weights, devices.

Begin at `find_differences`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from ferray import recipe as recipes
from ferray.errors import RecipeError
from ferray.recipe import NUMBERS_VERSION, Recipe
from ferray.report.results.compared.searches import ComparedSearch, validation_in_words
from ferray.report.results.read import SearchResults
from ferray.report.wording import in_words, setting_text, value_text
from ferray.space import Parameter
from ferray.wording import count_of

NOT_KNOWN = "not known"

_DEFAULT = " (default)"
"""After a value that a search has because its space does not have the setting."""

MAX_LISTED_VALUES = 8
"""Values of a parameter that are listed."""


@dataclass(frozen=True, kw_only=True)
class Property:
    """Something that searches have, and what each of them has."""

    name: str
    values: tuple[str, ...]
    """By search."""

    @property
    def differs(self) -> bool:
        """Whether they do not all have the same."""
        return len({value.removesuffix(_DEFAULT) for value in self.values}) > 1


@dataclass(frozen=True, kw_only=True)
class Differences:
    """What differs and what does not."""

    differing: tuple[Property, ...]
    """The most important ones first."""
    equal: tuple[Property, ...]


def find_differences(searches: Sequence[ComparedSearch]) -> Differences:
    """All that is on record of the searches, and of the parameters of their spaces, by whether it differs."""
    named = [dict(_properties(one)) for one in searches]
    names = dict.fromkeys(name for one in named for name in one)
    settings = dict.fromkeys(parameter.name for one in searches for parameter in one.results.space.parameters)
    found = [
        *(Property(name=name, values=tuple(one.get(name, NOT_KNOWN) for one in named)) for name in names),
        *(
            Property(name=in_words(name), values=tuple(map(partial(_setting, name=name), searches)))
            for name in settings
        ),
    ]
    return Differences(
        differing=tuple(one for one in found if one.differs), equal=tuple(one for one in found if not one.differs)
    )


def parameter_in_words(parameter: Parameter) -> str:
    """The values or the distribution of a parameter: `0.1, 1e-2`, `1e-5 to 0.1 (log uniform values)`."""
    if parameter.kind in ("value", "values"):
        texts = [setting_text(parameter.name, value) for value in parameter.values[:MAX_LISTED_VALUES]]
        more = len(parameter.values) - len(texts)
        return ", ".join(texts) + (f" and {more} more" if more else "")
    words = parameter.distribution.replace("_", " ")
    if parameter.shape is not None:
        words += f" {value_text(parameter.shape[0])}, {value_text(parameter.shape[1])}"
    if parameter.low is None or parameter.high is None:
        return words
    return f"{setting_text(parameter.name, parameter.low)} to {setting_text(parameter.name, parameter.high)} ({words})"


def _setting(search: ComparedSearch, *, name: str) -> str:
    """The values of a setting in a search."""
    results = search.results
    parameter = next((one for one in results.space.parameters if one.name == name), None)
    if parameter is not None:
        return parameter_in_words(parameter)
    if name == "weights" and results.search.options.weights == "none":  # set by the command, not by the space
        return "none"
    return f"{setting_text(name, getattr(Recipe, name))}{_DEFAULT}"


def _properties(compared: ComparedSearch) -> Iterator[tuple[str, str]]:
    results = compared.results
    search, space, options = results.search, results.space, results.search.options
    versions = dict(search.versions or {})
    yield "data set", search.data.dataset or NOT_KNOWN
    yield "data fingerprint", search.data.fingerprint[:12]
    yield "validated with", validation_in_words(results)
    yield "metric", in_words(compared.own_metric)
    yield "ferray", versions.pop("ferray", NOT_KNOWN)
    yield "version of numbers", _numbers_version(results)
    for backbone, fingerprint in search.weights.items():
        yield f"weights of {backbone}", fingerprint[:12] if fingerprint != recipes.NO_WEIGHTS else "none"
    yield "precision", search.precision or NOT_KNOWN
    yield "device", ", ".join(sorted({one.device for one in results.records if one.device})) or NOT_KNOWN
    yield "seed of the search", str(options.seed)
    yield "method", space.method
    yield "limit of points", _limit(results)
    halving = space.early_terminate
    rungs = "" if halving is None else ", ".join(map(str, halving.rungs))
    yield "early stopping", "none" if halving is None else f"the best 1/{halving.eta:g} go on after epoch {rungs}"
    yield "finals", _finals(results)
    yield from versions.items()


def _numbers_version(results: SearchResults) -> str:
    """That of this version of ferray if trials have the ids that it would give them; others are not on record."""
    if not results.records:
        return NOT_KNOWN
    search = results.search
    try:
        is_current = all(
            recipes.trial_id(
                recipes.make_recipe(recipes.to_values(one.recipe) | {"monitor": _own_monitor(results)}, where="record"),
                data_fingerprint=search.data.fingerprint,
                weights_fingerprint=search.weights.get(one.recipe.backbone, ""),
                groups_fingerprint=search.data.groups or "",
            )
            == one.trial_id
            for one in results.records[:1]
        )
    except (RecipeError, ValueError):  # timm is not installed, or the recipe is not settled
        return NOT_KNOWN
    return str(NUMBERS_VERSION) if is_current else f"another than {NUMBERS_VERSION}"


def _own_monitor(results: SearchResults) -> Any:
    """The metric that the records were made with."""
    metric = results.search.metric or {}
    return metric.get("name", results.metric)


def _limit(results: SearchResults) -> str:
    limits = [one for one in (results.max_trials, results.space.run_cap) if one is not None]
    return f"{min(limits):,}" if limits else "none"


def _finals(results: SearchResults) -> str:
    options, space = results.search.options, results.space
    replicates = options.replicates or space.replicates
    if replicates == 1:
        return "none"
    finalists = options.finalists or space.finalists
    return f"{count_of(finalists, 'point')} with {count_of(replicates, 'seed')}"
