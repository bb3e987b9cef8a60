"""Winners on the edge of what was tried."""

import dataclasses
import itertools
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ferray.commands.search import parse
from ferray.recipe import Recipe
from ferray.records.run import Run
from ferray.report.page.notes import edge_commands
from ferray.report.results.edges import Edge, find_edges
from ferray.report.results.scales import Scale
from ferray.report.results.sentences import edges_in_words
from ferray.search.options import SearchOptions
from ferray.search.plan import Plan, make_plan, name_is_taken
from ferray.space import parse_settings, read_space

HEAD = "metric: {name: val_accuracy, goal: maximize}\n"


def plan_of(folder: Path, parameters: str, *, head: str = "method: grid", **options: Any) -> Plan:
    file = folder / "space.yaml"
    file.write_text(f"{head}\n{HEAD}parameters: {{{parameters}}}\n")
    return make_plan(
        SearchOptions(space=str(file), name="first", out=str(folder / "my runs"), weights=str(file), **options)
    )


def edges_of(plan: Plan, tried: tuple[Recipe, ...] = (), **winner: Any) -> dict[str, Edge]:
    recipe = Recipe(**winner)
    return {edge.name: edge for edge in find_edges(plan, recipe, [recipe, *tried])}


@pytest.mark.parametrize(
    "parameters, winner, side, beyond",
    [
        ("learning_rate: {values: [1.0e-2, 1.0e-3, 1.0e-4]}", {"learning_rate": 1e-4}, "lowest", 1e-5),
        ("learning_rate: {values: [1.0e-2, 1.0e-3, 1.0e-4]}", {"learning_rate": 1e-2}, "highest", 0.1),
        ("batch_size: {values: [32, 128]}", {"batch_size": 128}, "highest", 512),
        ("dropout: {values: [0.0, 0.5]}", {"dropout": 0.5}, "highest", 0.75),  # 1 is no dropout
        ("hidden_units: {values: [null, 128, 256]}", {"hidden_units": 256}, "highest", 512),
        ("epochs: {values: [10, 30]}", {"epochs": 30}, "highest", 90),
        ("freeze: {values: [trunk, blocks1-4]}", {"freeze": "blocks1-4"}, "lowest", "blocks1-3"),
        ("augmentation: {values: [none, light]}", {"augmentation": "light"}, "highest", "standard"),
    ],
)
def test_a_winner_on_an_edge_is_named_with_the_command_that_goes_beyond_it(
    parameters: str, winner: dict[str, Any], side: str, beyond: Any, tmp_path: Path
) -> None:
    plan = plan_of(tmp_path, parameters)
    (edge,) = edges_of(plan, **winner).values()

    assert (edge.side, edge.beyond) == (side, beyond)
    assert f"the {side} of {edge.num_values} values" in edge.sentence()
    words = shlex.split(edge.way_out(plan))
    assert words[3:7] == ["--resume", "first", "--out", str(tmp_path / "my runs")]
    ((name, values),) = parse_settings(words[8:]).items()
    (parameter,) = (one for one in plan.space.parameters if one.searched)
    assert (name, set(values)) == (parameter.name, {*parameter.values, beyond})


@pytest.mark.parametrize(
    "parameters, winner",
    [
        ("learning_rate: {values: [1.0e-2, 1.0e-3, 1.0e-4]}", {"learning_rate": 1e-3}),
        ("learning_rate: {value: 1.0e-3}", {"learning_rate": 1e-3}),
        ("dropout: {values: [0.0, 0.5]}", {"dropout": 0.0}),
        ("learning_rate: {values: [0.1, 1.0]}", {"learning_rate": 1.0}),
        ("epochs: {values: [10, 30]}", {"epochs": 10}),
        ("seed: {values: [0, 1]}", {"seed": 1}),
        ("optimizer: {values: [adam, sgd]}", {"optimizer": "sgd"}),
        ("freeze: {values: [trunk, blocks1-4]}", {"freeze": "trunk"}),
        ("shuffle_labels: {values: [true, false]}", {"shuffle_labels": True}),
        ("hidden_units: {values: [null, 128]}", {"hidden_units": None}),
    ],
)
def test_inside_at_a_bound_of_the_recipe_and_without_an_order_there_is_no_edge(
    parameters: str, winner: dict[str, Any], tmp_path: Path
) -> None:
    assert not edges_of(plan_of(tmp_path, parameters), **winner)


def test_values_of_earlier_spaces_and_values_still_to_be_tried_count(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "learning_rate: {values: [1.0e-3, 1.0e-4]}")

    assert not edges_of(plan, (Recipe(learning_rate=1e-5),), learning_rate=1e-4)
    assert edges_of(plan, (Recipe(learning_rate=1e-5),), learning_rate=1e-5)["learning_rate"].num_values == 3


@pytest.mark.parametrize(
    "range_, value, side, beyond",
    [
        ("{distribution: log_uniform_values, min: 1.0e-5, max: 1.0e-1}", 1.2e-5, "lowest", 1e-7),
        ("{distribution: log_uniform, min: -9.21034, max: -2.302585}", 0.099, "highest", 0.562),
        ("{distribution: log_uniform_values, min: 1.0e-5, max: 1.0e-1}", 2e-5, None, None),
        ("{min: 0.1, max: 0.3}", 0.299, "highest", 0.4),
    ],
)
def test_a_winner_near_the_end_of_a_range_is_named_with_the_wider_range(
    range_: str, value: float, side: str | None, beyond: float | None, tmp_path: Path
) -> None:
    plan = plan_of(tmp_path, f"learning_rate: {range_}", head="method: random\nrun_cap: 30")
    edge = edges_of(plan, learning_rate=value).get("learning_rate")
    if side is None:
        assert edge is None
        return

    assert edge is not None
    assert edge.side == side
    assert edge.beyond == pytest.approx(beyond, rel=0.01)
    assert f"close to the {side}" in edge.sentence()
    options = parse(shlex.split(edge.way_out(plan))[3:])
    assert (options.resume, options.out) == ("first", str(tmp_path / "my runs"))
    wider = read_space(tmp_path / "space.yaml", parse_settings(options.settings))
    (parameter,) = (one for one in wider.parameters if one.searched)
    assert parameter.low is not None
    assert parameter.high is not None
    assert parameter.low <= edge.beyond * 1.0001
    assert parameter.high >= edge.beyond * 0.9999
    assert wider.run_cap == 60
    assert not edges_of(dataclasses.replace(plan, space=wider), learning_rate=value)


def test_a_search_that_is_limited_gets_room_for_the_new_points(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "batch_size: {values: [32, 64]}", max_trials=2)

    assert edges_of(plan, batch_size=64)["batch_size"].way_out(plan).endswith(" --max-trials 4")


def test_every_proposed_value_is_one_that_the_recipe_accepts(tmp_path: Path) -> None:
    """Whatever two values of a setting are searched, the recipe can be made with the value beyond them."""
    values = {"dropout": (0.0, 0.3, 0.9), "label_smoothing": (0.0, 0.1, 0.6), "batch_size": (1, 2, 65536)}
    for name, numbers in values.items():
        for low, high in itertools.combinations(numbers, 2):
            plan = plan_of(tmp_path, f"{name}: {{values: [{low}, {high}]}}")
            for value in (low, high):
                for edge in edges_of(plan, **{name: value}).values():
                    beyond = dataclasses.replace(Recipe(), **{name: edge.beyond})
                    assert not low <= getattr(beyond, name) <= high


def test_an_edge_of_a_setting_that_makes_no_difference_gets_no_advice(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, "batch_size: {values: [32, 128]}, learning_rate: {values: [1.0e-3, 1.0e-4]}")
    edges = list(edges_of(plan, batch_size=128, learning_rate=1e-4).values())
    results: Any = SimpleNamespace(
        edges=edges, searched=("batch_size", "learning_rate"), run=plan.run, space=plan.space, max_trials=None
    )
    indifferent = [Scale(name="batch_size", texts=(), places=(), positions=(), ticks=(), labels=())]

    assert [command.text for command in edge_commands(results, indifferent)] == ["Try learning rate 1e-5, too"]
    assert "batch_size" not in edges_in_words(results, indifferent)
    assert "learning_rate 1e-4 is the lowest of 2 values" in edges_in_words(results, indifferent)
    results.edges = edges[:1]
    assert "only of settings that make no difference" in edges_in_words(results, indifferent)


def test_what_is_offered_fits_the_other_settings(tmp_path: Path) -> None:
    """A warm-up is shorter than the run, and a backbone has sizes of its own."""
    plan = plan_of(tmp_path, "warmup_epochs: {values: [1.0, 2.0]}, epochs: {value: 3}")
    assert edges_of(plan, warmup_epochs=2.0, epochs=3)["warmup_epochs"].beyond == 2.83
    plan = plan_of(tmp_path, "warmup_epochs: {values: [1.0, 2.0]}, epochs: {values: [3, 30]}")
    short = Recipe(epochs=3, warmup_epochs=1.0)
    assert edges_of(plan, (short,), warmup_epochs=2.0, epochs=30)["warmup_epochs"].beyond == 2.83
    plan = plan_of(tmp_path, "image_size: {values: [32, 48]}, backbone: {value: vit_b_16}")
    assert edges_of(plan, image_size=48, backbone="vit_b_16")["image_size"].beyond % 16 == 0


@pytest.mark.parametrize("name", ["first", "my first", "it's", "-1"])
def test_the_command_that_goes_on_can_be_pasted_whatever_the_name(name: str, tmp_path: Path) -> None:
    run = Run(tmp_path / "my runs" / name)
    options = parse(shlex.split(run.resume_command)[3:])

    assert (options.resume, options.out) == (name, str(tmp_path / "my runs"))
    way_out = name_is_taken(run).args[2].removeprefix("Go on with it: ").partition("; or")[0]
    assert parse(shlex.split(way_out)).resume == name
