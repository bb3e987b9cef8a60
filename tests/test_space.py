"""Promises of search spaces: what is read, what is refused and how, and what the points are."""

import itertools
import logging
import math
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from statistics import mean, median
from textwrap import dedent, indent
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from ferray.errors import SpaceError
from ferray.recipe import Recipe
from ferray.space import Space, find_space, num_points, parse_settings, points, read_space, to_recipe, to_sweep_config
from ferray.space.hyperband import rungs_from_max
from ferray.space.nodes import read_yaml
from ferray.space.parameter import Parameter

REPOSITORY = Path(__file__).resolve().parent.parent
SHIPPED = sorted((REPOSITORY / "search_spaces").glob("*.yaml"))
METRIC = "metric: {name: val_accuracy, goal: maximize}\n"


def write(folder: Path, text: str) -> Path:
    file = folder / "mine.yaml"
    file.write_text(dedent(text), encoding="utf-8")
    return file


def space_of(folder: Path, parameters: str, *, method: str = "random", rest: str = "", **settings: Any) -> Space:
    text = f"method: {method}\n{METRIC}{rest}parameters:\n{indent(dedent(parameters).strip(), '  ')}\n"
    return read_space(write(folder, text), settings)


def one(folder: Path, parameter: str, *, method: str = "random") -> Parameter:
    return space_of(folder, parameter, method=method).parameters[0]


def draws(folder: Path, parameter: str, count: int = 2000) -> list[Any]:
    space = space_of(folder, parameter)
    (name,) = (parameter.name for parameter in space.parameters)
    return [point[name] for point in itertools.islice(points(space, seed=1), count)]


def fault(folder: Path, text: str, **settings: Any) -> tuple[str, str, str]:
    with pytest.raises(SpaceError) as caught:
        read_space(write(folder, text), settings)
    where, what, way_out = caught.value.args
    return where.removeprefix(f"{folder}/"), what, way_out


def parameter_fault(folder: Path, parameter: str, *, method: str = "random") -> tuple[str, str]:
    _, what, way_out = fault(folder, f"method: {method}\n{METRIC}parameters:\n{indent(parameter, '  ')}\n")
    return what, way_out


# Shipped spaces


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_shipped_space_is_whole(file: Path) -> None:
    space = read_space(file)

    assert file.read_text().startswith("# ")
    assert f"python -m ferray.search --space {file.stem}" in file.read_text()
    assert num_points(space)
    assert max(map(len, file.read_text().splitlines())) <= 120


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: file.stem)
def test_every_number_of_a_shipped_space_is_one_for_wandb_too(file: Path) -> None:
    ours = {parameter.name: parameter for parameter in read_space(file).parameters}
    theirs = yaml.safe_load(file.read_text())["parameters"]

    for name, keys in theirs.items():
        values = keys.get("values", [keys.get("value")])
        if ours[name].kind in ("value", "values"):
            assert list(ours[name].values) == values
        else:
            assert all(isinstance(keys[key], int | float) for key in ("min", "max"))


def test_the_shipped_grid_is_the_published_search() -> None:
    space = read_space(find_space("grid"))
    recipes = [to_recipe(space, point, seed=0) for point in points(space, seed=0)]

    assert len(recipes) == 32
    assert space.searched == ("augmentation", "dropout", "batch_size", "learning_rate")
    assert any(recipe.learning_rate == 1e-3 and recipe.batch_size == 32 for recipe in recipes)
    assert {recipe.backbone for recipe in recipes} == {"vgg16"}
    assert {(recipe.freeze, recipe.optimizer, recipe.epochs) for recipe in recipes} == {("trunk", "adam", 10)}
    assert [recipe.augmentation for recipe in recipes] == ["none"] * 16 + ["light"] * 16


def test_a_space_is_found_by_name_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert find_space("grid") == REPOSITORY / "search_spaces" / "grid.yaml"


def test_a_space_of_this_folder_comes_before_a_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "search_spaces").mkdir()
    (tmp_path / "search_spaces" / "grid.yaml").write_text("method: grid")

    assert find_space("grid") == Path("search_spaces/grid.yaml")


def test_an_unknown_space_offers_the_nearest_and_lists_all(tmp_path: Path) -> None:
    with pytest.raises(
        SpaceError,
        match=r"(?s)--space gird: .*'grid'.*asha, backbones, bayes, finetune, grid, imbalance, report, smoke",
    ):
        find_space("gird")
    for name in (str(tmp_path), "", "~nobody/x", "x" * 5000, "a\0b"):
        with pytest.raises(SpaceError, match="no such file or space"):
            find_space(name)


# Reading and refusing


def test_a_fault_names_file_line_key_value_and_the_way_out(tmp_path: Path) -> None:
    text = """\
        method: grid
        parameters:
          learning_rate:
            values:
              - 1.0e-3
              - 10.0
    """

    where, what, way_out = fault(tmp_path, text)

    assert where == "mine.yaml:6"
    assert what.startswith("parameters.learning_rate.values[1] is 10.0")
    assert "<= 1" in way_out


@pytest.mark.parametrize(
    "text, where, words",
    [
        ("", "mine.yaml", "empty"),
        ("# only a comment\n", "mine.yaml", "empty"),
        ("- a\n", "mine.yaml:1", "not a mapping"),
        ("method: grid\nparameters: [\n", "mine.yaml:3", "not YAML"),
        ("method: grid\nmethod: random\n", "mine.yaml:2", "twice, first in line 1"),
        ("method: grid\n---\nmethod: grid\n", "mine.yaml:2", "another document"),
        ("parameters: {epochs: {value: 1}}\n", "mine.yaml:1", "method is missing"),
        ("method: custom\nparameters: {epochs: {value: 1}}\n", "mine.yaml:1", "custom"),
        ("method: gird\nparameters: {epochs: {value: 1}}\n", "mine.yaml:1", "method is 'gird'"),
        ("method: [grid]\nparameters: {epochs: {value: 1}}\n", "mine.yaml:1", "method is a list"),
        ("method: grid\n", "mine.yaml:1", "parameters is missing"),
        ("method: grid\nparameters: {}\n", "mine.yaml:2", "parameters is empty"),
        ("method: grid\nparameter: {epochs: {value: 1}}\n", "mine.yaml:2", "parameter is not a key"),
        ("method: grid\nscheduler: {engine: optuna}\nparameters: {epochs: {value: 1}}\n", "mine.yaml:2", "agents"),
        ("method: grid\nrun_cap: 0\nparameters: {epochs: {value: 1}}\n", "mine.yaml:2", "run_cap is 0"),
        ("method: grid\nrun_cap: true\nparameters: {epochs: {value: 1}}\n", "mine.yaml:2", "run_cap is True"),
        ("method: grid\nreplicates: 0\nparameters: {epochs: {value: 1}}\n", "mine.yaml:2", "replicates is 0"),
        ("method: grid\nparameters:\n  fold: {value: 1}\n", "mine.yaml:3", "fold is the search's to set"),
        ("method: grid\nparameters:\n  folds: {values: [2, 3]}\n", "mine.yaml:3", "folds has several values"),
        ("method: grid\nrun_cap: 1.5\nparameters: {epochs: {value: 1}}\n", "mine.yaml:2", "run_cap is 1.5"),
        ("method: grid\nproject: 3\nparameters: {epochs: {value: 1}}\n", "mine.yaml:2", "project is 3"),
        ("method: bayes\nparameters: {epochs: {values: [1, 2]}}\n", "mine.yaml:1", "metric is missing"),
        ("method: grid\nparameters:\n  <<: [{epochs: {value: 1}}, 5]\n", "mine.yaml:3", "takes keys from what is no"),
        ("method: grid\nparameters:\n  <<: {epochs: {value: 1}}\n  seed: 5\n", "mine.yaml:4", "seed is 5"),
        ("method: grid\nparameters: &a\n  <<: *a\n  epochs: {value: 1}\n", "mine.yaml", "nested"),
        ("method: grid\nparameters:\n  5: {value: 1}\n", "mine.yaml:3", "no text"),
        ("method: grid\nparameters: !!set {epochs}\n", "mine.yaml:2", "tag"),
        ("method: grid\nparameters: !!python/object:os.system {}\n", "mine.yaml:2", "tag"),
        ("method: grid\nparameters: {seed: {value: !!int a}}\n", "mine.yaml:2", "cannot be read as int"),
        ("method: grid\nparameters: {seed: {value: !!int ''}}\n", "mine.yaml:2", "cannot be read as int"),
        ("method: grid\nparameters: {seed: {value: !!bool maybe}}\n", "mine.yaml:2", "cannot be read as bool"),
        ("method: grid\nparameters: {seed: {value: !!float abc}}\n", "mine.yaml:2", "cannot be read as float"),
        ("method: grid\nparameters: {seed: {value: !x 3}}\n", "mine.yaml:2", "the tag !x is not read"),
        ("method: grid\nparameters: {seed: !!python/tuple [3]}\n", "mine.yaml:2", "the tag !!python/tuple is not read"),
        ("method: grid\nparameters: {seed: {value: !!binary aa}}\n", "mine.yaml:2", "the tag !!binary is not read"),
        ("method: grid\nparameters: !!map [1]\n", "mine.yaml:2", "!!map does not go with this value"),
        ("[" * 1000, "mine.yaml", "nested"),
        ("a: &a [*a]\n", "mine.yaml", "nested"),
    ],
)
def test_what_is_no_sweep_file_is_refused_by_line(tmp_path: Path, text: str, where: str, words: str) -> None:
    found, what, _ = fault(tmp_path, text)

    assert found == where
    assert words in what


@pytest.mark.parametrize(
    "metric, words",
    [
        ("{name: val_acc, goal: maximize}", "'val_acc'"),
        ("{name: val_accuracy, goal: minimize}", "the largest"),
        ("{name: val_accuracy}", "left out, is 'minimize'"),
        ("{name: val_loss, goal: maximize}", "the smallest"),
        ("{name: val_loss, goal: up}", "'up'"),
        ("{goal: maximize}", "no name"),
        ("{name: val_loss, target: 0.1}", "target is not supported"),
        ("{name: val_loss, direction: down}", "direction is unknown"),
        ("val_loss", "not a mapping"),
        ("{name: [val_loss]}", "a list"),
    ],
)
def test_a_metric_must_be_one_that_epochs_report_in_its_own_direction(tmp_path: Path, metric: str, words: str) -> None:
    where, what, _ = fault(tmp_path, f"method: grid\nmetric: {metric}\nparameters: {{epochs: {{value: 1}}}}\n")

    assert where == "mine.yaml:2"
    assert words in what


def test_a_loss_needs_no_goal_because_wandb_minimizes(tmp_path: Path) -> None:
    file = write(tmp_path, "method: grid\nmetric: {name: val_loss}\nparameters: {epochs: {value: 1}}\n")

    assert read_space(file).metric.goal == "minimize"


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    with pytest.raises(SpaceError, match="No such file"):
        read_space(tmp_path / "none.yaml")
    with pytest.raises(SpaceError, match="directory"):
        read_space(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"method: grid\n# caf\xe9\n")
    with pytest.raises(SpaceError, match=r"latin.yaml:2: not UTF-8: byte 0xe9"):
        read_space(tmp_path / "latin.yaml")
    (tmp_path / "large.yaml").write_bytes(b"#" * 1_000_001)
    with pytest.raises(SpaceError, match="1,000,001 bytes"):
        read_space(tmp_path / "large.yaml")


def test_a_byte_order_mark_and_windows_lines_are_read(tmp_path: Path) -> None:
    (tmp_path / "dos.yaml").write_bytes(b"\xef\xbb\xbfmethod: grid\r\nparameters: {epochs: {value: 3}}\r\n")

    assert read_space(tmp_path / "dos.yaml").parameters[0].values == (3,)


def test_aliases_that_multiply_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 10)]

    _, what, _ = fault(tmp_path, "\n".join(lines))

    assert "more than 100,000 values" in what


def test_what_only_concerns_wandb_agents_is_accepted(tmp_path: Path) -> None:
    rest = dedent("""\
        name: first try
        description: words
        program: train.py
        command: ["${env}", "${interpreter}", "${program}", "${args}"]
        project: faces
        entity: team
    """)

    space = space_of(tmp_path, "epochs: {value: 1}", rest=rest)

    assert (space.name, space.project, space.entity) == ("mine", "faces", "team")


@pytest.mark.parametrize("key, nearest", [("imageuri", "'image_uri'"), ("count", "'run_cap'"), ("paramters", "'param")])
def test_an_unknown_key_offers_the_nearest_also_of_those_without_effect(tmp_path: Path, key: str, nearest: str) -> None:
    _, _, way_out = fault(tmp_path, f"method: grid\n{key}: 3\nparameters: {{epochs: {{value: 1}}}}\n")

    assert way_out.startswith(f"Did you mean {nearest}")


def test_the_tags_of_yaml_itself_are_read_as_wandb_reads_them(tmp_path: Path) -> None:
    text = """\
        method: !!str random
        metric: !!map {name: val_accuracy, goal: maximize}
        parameters:
          learning_rate: {distribution: log_uniform_values, min: !!float 1e-5, max: !!float "1e-2"}
          batch_size: {values: !!seq [!!int "32", !!int 64]}
          hidden_units: {value: !!null null}
          shuffle_labels: {value: !!bool yes}
    """

    found = {parameter.name: parameter for parameter in read_space(write(tmp_path, text)).parameters}

    assert (found["learning_rate"].low, found["learning_rate"].high) == (1e-5, 1e-2)
    assert found["batch_size"].values == (32, 64)
    assert (found["hidden_units"].values, found["shuffle_labels"].values) == ((None,), (True,))


def test_early_terminate_and_entity_that_are_null_count_as_left_out(tmp_path: Path) -> None:
    space = space_of(tmp_path, "epochs: {value: 1}", rest="early_terminate: null\nentity: null\nproject:\n")

    assert (space.early_terminate, space.entity, space.project) == (None, None, None)


@pytest.mark.parametrize(
    "parameter, values",
    [
        ("weight_decay: {min: 0, max: 1}", "0 or 1"),
        ("mixup_alpha: {min: 0, max: 2}", "0 to 2"),
        ("weight_decay: {min: 0.0, max: 1.0}", ""),
        ("weight_decay: {distribution: int_uniform, min: 0, max: 1}", ""),
        ("epochs: {min: 1, max: 2}", ""),
    ],
)
def test_whole_numbers_for_a_setting_of_fractions_are_one_warning_with_both_spellings(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, parameter: str, values: str
) -> None:
    space_of(tmp_path, parameter)

    assert len(caplog.messages) == bool(values)
    for words in ("mine.yaml:4: parameters.", f"is {values}, whole", "`min: 0.0`", "`distribution: int_uniform`"):
        assert not values or words in caplog.messages[0]


@pytest.mark.parametrize("ends", ["min: 0, max: 0.5", "min: 0.0, max: 0.5", "min: 0.25, max: 1", "min: 0, max: 1.0"])
@pytest.mark.parametrize("method", ["random", "bayes"])
def test_ends_of_which_one_has_a_point_are_those_of_fractions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ends: str, method: str
) -> None:
    parameter = one(tmp_path, f"weight_decay: {{{ends}}}", method=method)

    assert (parameter.distribution, parameter.kind, parameter.step) == ("uniform", "float", None)
    assert caplog.messages == []


@pytest.mark.parametrize(
    "parameter, warns",
    [
        ("weight_decay: {distribution: q_uniform, min: 0.0, max: 1.0}", True),
        ("dropout: {distribution: q_beta, a: 2, b: 3}", True),
        ("random_erasing: {distribution: q_normal, mu: 0.5, sigma: 0.2}", True),
        ("weight_decay: {distribution: q_uniform, min: 0.0, max: 1.0, q: 1}", False),
        ("batch_size: {distribution: q_log_uniform_values, min: 8, max: 64}", False),
    ],
)
def test_a_q_that_is_left_out_of_a_setting_of_fractions_is_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, parameter: str, warns: bool
) -> None:
    space_of(tmp_path, parameter)

    assert ["mine.yaml:4: parameters." in one and "without q has whole" in one for one in caplog.messages] == [
        True
    ] * warns


@pytest.mark.parametrize(
    "text",
    [
        "{a: &a {x: 1, y: 2}, b: {<<: *a, y: 5, z: 6}}",
        "{a: &a {x: 1, y: 2}, b: &b {y: 3, z: 4}, c: {q: 0, <<: [*a, *b], y: 9}, d: {<<: [*b, *a]}}",
        "{a: &a {x: 1, y: 2}, b: &b {y: 3, z: 4}, c: {<<: *a, <<: *b}}",
        "{a: {<<: {<<: {x: 1}, y: 2}, x: 3}}",
    ],
)
def test_merges_are_read_in_the_order_and_with_the_values_of_pyyaml(text: str) -> None:
    found, expected = read_yaml(text, file="mine.yaml").plain(), yaml.safe_load(text)
    assert found == expected
    assert [list(one.items()) for one in found.values()] == [list(one.items()) for one in expected.values()]


def test_merges_that_multiply_are_refused() -> None:
    lines = ["x0: &x0 {a: 1}", *(f"x{n + 1}: &x{n + 1} {{<<: [{', '.join([f'*x{n}'] * 9)}]}}" for n in range(11))]
    with pytest.raises(SpaceError, match="more than 100,000 values"):
        read_yaml("\n".join(lines), file="mine.yaml")


@pytest.mark.parametrize(
    "parameter, warns",
    [
        ("focal_gamma: {distribution: log_uniform, min: 0.1, max: 2.0}", True),
        ("learning_rate: {distribution: log_uniform, min: -9.0, max: -2.0}", False),
    ],
)
def test_exponents_that_could_be_values_are_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, parameter: str, warns: bool
) -> None:
    space_of(tmp_path, parameter)

    assert ["values from 1.105 to 7.389, e**0.1 to e**2" in message for message in caplog.messages] == [True] * warns


@pytest.mark.parametrize(
    "metric, monitor, warns",
    [
        ("{name: val_accuracy, goal: maximize}", "", False),
        ("{name: val_loss}", ", monitor: {value: val_loss}", False),
        ("{name: val_loss}", "", True),
    ],
)
def test_a_program_that_is_ferrays_own_is_a_warning_only_if_an_agent_would_keep_another_epoch(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, metric: str, monitor: str, warns: bool
) -> None:
    program = "program: ferray.train\ncommand: ['${interpreter}', -m, '${program}']"
    parameters = f"parameters: {{epochs: {{value: 1}}{monitor}}}"
    read_space(write(tmp_path, f"method: grid\nmetric: {metric}\n{program}\n{parameters}\n"))

    assert ["add the parameter `monitor: {value: val_loss}`" in message for message in caplog.messages] == [
        True
    ] * warns


@pytest.mark.parametrize(
    "keys, message",
    [
        ("program: train.py\n", "mine.yaml:3: program has no effect: ferray trains by itself"),
        (
            "program: train.py\ncommand: [python3, -m, '${program}', --lr, 0.1, --epochs=2, '${args}', --balanced]\n",
            "mine.yaml:4: program and command have no effect: ferray trains by itself; "
            "command sets --lr, --epochs, --balanced, to be written as parameters with a value",
        ),
    ],
)
def test_that_no_program_is_run_is_one_line_that_names_the_settings_in_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, keys: str, message: str
) -> None:
    space_of(tmp_path, "epochs: {value: 1}", rest=keys)

    assert [found.removeprefix(f"{tmp_path}/") for found in caplog.messages] == [message]


def test_a_value_that_a_grid_names_twice_counts_once_as_in_wandb(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    space = space_of(tmp_path, "weight_decay: {values: [0, 0.1, 0.0]}\nseed: {values: [1, 2]}", method="grid")

    assert num_points(space) == 4
    assert ["weight_decay.values[2] is 0.0, which the list has already; it counts once" in caplog.text] == [True]


@pytest.mark.parametrize("method", ["random", "bayes"])
@pytest.mark.parametrize(
    "parameters, run_cap, count",
    [
        ("batch_size: {values: [8, 16]}\nepochs: {min: 1, max: 3}", "", 6),
        ("batch_size: {values: [8, 16]}\nepochs: {min: 1, max: 3}", "run_cap: 4\n", 4),
        ("batch_size: {values: [8, 16]}\nepochs: {min: 1, max: 3}", "run_cap: 40\n", 6),
        ("dropout: {distribution: q_uniform, min: 0.1, max: 0.5, q: 0.1}", "", 5),
        ("dropout: {min: 0.1, max: 0.5}", "", None),
        ("dropout: {min: 0.1, max: 0.5}", "run_cap: 7\n", 7),
    ],
)
def test_a_finite_space_has_no_more_points_than_exist(
    tmp_path: Path, method: str, parameters: str, run_cap: str, count: int | None
) -> None:
    assert num_points(space_of(tmp_path, parameters, method=method, rest=run_cap)) == count


def test_a_value_of_probability_0_is_no_point(tmp_path: Path) -> None:
    assert num_points(space_of(tmp_path, "dropout: {values: [0.0, 0.1, 0.5], probabilities: [0.5, 0, 0.5]}")) == 2


@pytest.mark.parametrize(
    "text, value",
    [("1e-3", 1e-3), ("1E-3", 1e-3), ("1.e-3", 1e-3), ("1.0e-3", 1e-3), (".001", 1e-3), ("1", 1.0), ("+5e-1", 0.5)],
)
def test_numbers_are_numbers_however_yaml_1_1_sees_them(tmp_path: Path, text: str, value: float) -> None:
    assert one(tmp_path, f"learning_rate: {{value: {text}}}").values == (value,)


@pytest.mark.parametrize(
    "parameter, words",
    [
        ("learning_rte: {value: 0.1}", "learning_rte is not a setting"),
        ("learning_rate: {value: '1e-3'}", "valid number"),
        ("epochs: {value: yes}", "True"),
        ("epochs: {value: 2.5}", "2.5"),
        ("epochs: {value: 2026-01-01}", "date"),
        ("epochs: 10", "not a mapping"),
        ("epochs: [10]", "not a mapping"),
        ("epochs: {value: [10]}", "is a list"),
        ("epochs: {values: 10}", "not a list"),
        ("epochs: {values: []}", "empty list"),
        ("epochs: {values: [1, 2, 1.0]}", "has already"),
        ("epochs: {}", "is empty"),
        ("epochs: {distribution: uniform_int, min: 1, max: 2}", "'uniform_int'"),
        ("epochs: {distribution: [a]}", "a list"),
        ("epochs: {distribution: {a: 1}}", "a mapping"),
        ("epochs: {min: 1}", "has only min"),
        ("epochs: {distribution: int_uniform, min: 1}", "has no max"),
        ("epochs: {value: 1, values: [1]}", "values does not go with constant"),
        ("epochs: {min: 1, max: 3, q: 2}", "q does not go with int_uniform"),
        ("epochs: {min: 5, max: 3}", "max is 3, not above min"),
        ("epochs: {min: 3, max: 3}", "max is 3, not above min"),
        ("epochs: {min: 0, max: 3}", "min is 0"),
        ("epochs: {min: 1, max: 3.5}", "draws fractions, but epochs is a whole number"),
        ("epochs: {min: a, max: 3}", "'a', not a number"),
        ("epochs: {min: 1, max: .inf}", "finite"),
        ("epochs: {distribution: uniform, min: 1, max: 3}", "draws fractions"),
        ("epochs: {distribution: q_normal, mu: 5}", "no largest value"),
        ("batch_size: {distribution: log_uniform_values, min: 1, max: 64}", "draws fractions"),
        ("batch_size: {distribution: normal, mu: 64}", "draws fractions"),
        ("batch_size: {distribution: int_uniform, min: 1.0, max: 64}", "no whole numbers"),
        ("dropout: {min: 0.0, max: 1.0}", "max is 1.0"),
        ("dropout: {distribution: q_uniform, min: 0.1, max: 0.2, q: 0.5}", "no multiple of q"),
        ("dropout: {distribution: q_uniform, min: 0.1, max: 0.2, q: 0}", "q is 0"),
        ("dropout: {distribution: log_uniform_values, min: 0.0, max: 0.5}", "no logarithm"),
        ("dropout: {distribution: normal, sigma: -1}", "sigma -1"),
        ("dropout: {distribution: beta, a: 0}", "a 0"),
        ("dropout: {values: [0, 0.5], probabilities: [0.5]}", "1 numbers for 2 values"),
        ("dropout: {values: [0, 0.5], probabilities: [0.5, 0.6]}", "sum 1.1"),
        ("dropout: {values: [0, 0.5], probabilities: [1.5, -0.5]}", "negative"),
        ("learning_rate: {distribution: log_uniform, min: 0.0001, max: 0.1}", "natural-log exponents"),
        ("learning_rate: {distribution: log_uniform, min: 1, max: 1000}", "natural-log exponents"),
        ("augmentation: {values: [none, heavy]}", "'heavy'"),
        ("augmentation: {min: 0, max: 1}", "min is 0"),
        ("hidden_units: {value: None}", "'None'"),
        ("group: {parameters: {epochs: {value: 1}}, value: 3}", "stands beside"),
        ("group: {parameters: {epochs: {value: 1}}}\nepochs: {value: 2}", "second time"),
    ],
)
def test_a_parameter_that_the_recipe_or_wandb_would_refuse_is_refused(
    tmp_path: Path, parameter: str, words: str
) -> None:
    what, _ = parameter_fault(tmp_path, parameter)

    assert words in what


@pytest.mark.parametrize(
    "parameter, hint",
    [
        ("learning_rte: {value: 0.1}", "'learning_rate'"),
        ("epochs: 10", "epochs: {value: ...}"),
        ("epochs: [10]", "epochs: {values: ...}"),
        ("learning_rate: {distribution: loguniform, min: 0.0001, max: 0.1}", "'log_uniform_values'"),
        ("learning_rate: {distribution: log-uniform, min: 0.0001, max: 0.1}", "'log_uniform_values'"),
        ("dropout: {values: [0.1, 0.1]}", "probabilities"),
        ("hidden_units: {value: None}", "or null"),
        ("learning_rate: {distribution: log_uniform, min: 0.0001, max: 0.1}", "log_uniform_values"),
        ("epochs: {distribution: uniform_int, min: 1, max: 2}", "Did you mean"),
    ],
)
def test_a_near_miss_is_offered(tmp_path: Path, parameter: str, hint: str) -> None:
    _, way_out = parameter_fault(tmp_path, parameter)

    assert hint in way_out


@pytest.mark.parametrize(
    "parameter",
    [
        "learning_rate: {min: 0.1, max: 0.2}",
        "learning_rate: {distribution: log_uniform_values, min: 0.1, max: 0.2}",
        "learning_rate: {distribution: q_log_uniform_values, min: 0.1, max: 0.2, q: 0.1}",
        "dropout: {distribution: beta}",
        "dropout: {values: [0.0, 0.5], probabilities: [0.5, 0.5]}",
    ],
)
def test_a_grid_has_no_parameter_that_cannot_be_listed(tmp_path: Path, parameter: str) -> None:
    what, _ = parameter_fault(tmp_path, parameter, method="grid")

    assert "which a grid cannot list" in what


@pytest.mark.parametrize(
    "parameter",
    [
        "dropout: {values: [0.0, 0.5], probabilities: [0.5, 0.5]}",
        "dropout: {distribution: normal, mu: 0.3, sigma: 0.1}",
        "dropout: {distribution: beta, a: 2, b: 5}",
        "learning_rate: {distribution: q_log_uniform_values, min: 0.1, max: 0.5, q: 0.1}",
        "batch_size: {distribution: q_log_uniform_values, min: 16, max: 128, q: 16}",
    ],
)
def test_what_tpe_cannot_model_is_refused_with_the_reason(tmp_path: Path, parameter: str) -> None:
    what, way_out = parameter_fault(tmp_path, parameter, method="bayes")

    assert "TPE" in what
    assert "method: random" in way_out


def test_a_bayes_space_with_nothing_to_search_is_refused(tmp_path: Path) -> None:
    what, _ = parameter_fault(tmp_path, "epochs: {value: 3}", method="bayes")

    assert "nothing to search" in what


def test_values_that_do_not_go_together_are_refused_when_the_file_is_read(tmp_path: Path) -> None:
    what, _ = parameter_fault(tmp_path, "epochs: {values: [2, 10]}\nwarmup_epochs: {values: [0, 3]}")
    assert "warmup_epochs is 3" in what

    what, _ = parameter_fault(tmp_path, "epochs: {value: 2}\nwarmup_epochs: {min: 0.0, max: 2.5}")
    assert "warmup_epochs is 2.5" in what

    what, _ = parameter_fault(tmp_path, "weights: {values: [pretrained, none]}\nfreeze: {values: [trunk, blocks1-4]}")
    assert "weights is 'none'" in what

    what, _ = parameter_fault(tmp_path, "warmup_epochs: {value: 10}")
    assert "only 10 epochs" in what


def test_the_monitor_is_the_metric(tmp_path: Path) -> None:
    what, _ = parameter_fault(tmp_path, "monitor: {value: val_loss}")
    assert "not the space's metric" in what

    space = space_of(tmp_path, "monitor: {value: val_accuracy}")
    assert to_recipe(space, {}, seed=0).monitor == "val_accuracy"


def test_nested_parameters_come_out_of_their_groups(tmp_path: Path) -> None:
    parameters = """\
        optimizer_settings:
          parameters:
            learning_rate: {values: [1.0e-3, 1.0e-4]}
            deeper:
              parameters:
                weight_decay: {value: 0.01}
        epochs: {value: 2}
    """
    space = space_of(tmp_path, parameters, method="grid")

    assert [parameter.name for parameter in space.parameters] == ["learning_rate", "weight_decay", "epochs"]
    assert num_points(space) == 2


@pytest.mark.parametrize(
    "rule, epochs, rungs",
    [
        ("max_iter: 26, s: 2, eta: 3", 26, (2, 8)),
        ("max_iter: 10, s: 1", 10, (3,)),
        ("max_iter: 20, s: 2", 20, (2, 6)),
        ("max_iter: 100, s: 3", 100, (3, 11, 33)),
        ("max_iter: 27, s: 2", 27, (3, 9)),
        ("max_iter: 27, s: 9, eta: 3", 27, (1, 3, 9)),
        ("max_iter: 30, s: 3, eta: 2.5", 30, (1, 4, 12)),
        ("max_iter: 9, s: 2", 27, (1, 3)),
        ("max_iter: 200, s: 4, min_iter: 5", 300, (2, 7, 22, 66)),
        ("min_iter: 3, max_iter: 27, s: 2", 27, (3, 9)),
        ("min_iter: 3, s: 2", 27, (3, 9)),
        ("min_iter: 2, eta: 3", 27, (2, 6, 18)),
        ("min_iter: 2.0, eta: 3", 27, (2, 6, 18)),
        ("min_iter: 1, eta: 2, strict: false", 27, (1, 2, 4, 8, 16)),
        ("min_iter: 2, eta: 1.5", 27, (2, 3, 4, 6, 10, 15, 22)),
        ("min_iter: 1, eta: 1.2", 6, (1, 2, 3, 4, 5)),
    ],
)
def test_trials_are_judged_at_the_epochs_of_wandb(
    tmp_path: Path, rule: str, epochs: int, rungs: tuple[int, ...]
) -> None:
    rest = f"early_terminate: {{type: hyperband, {rule}}}\n"

    halving = space_of(tmp_path, f"epochs: {{value: {epochs}}}", rest=rest).early_terminate

    assert halving is not None
    assert halving.rungs_below(epochs) == rungs


def test_wandb_computes_the_same_rungs_from_max_iter() -> None:
    for max_iter, s, eta in itertools.product(range(2, 120), range(1, 5), (1.5, 2.0, 2.5, 3.0, 4.0)):
        bands = [max_iter]
        for _ in range(s):
            bands.append(bands[-1] / eta)
        assert rungs_from_max(max_iter, s, eta) == tuple(sorted({int(band) for band in bands[1:] if band >= 1}))


@pytest.mark.parametrize(
    "rule, warning",
    [
        (
            "min_iter: 2, s: 2",
            "mine.yaml:3: early_terminate.s has no effect beside min_iter, as in W&B: rungs at epochs 2",
        ),
        (
            "min_iter: 2, max_iter: 27, s: 2",
            "mine.yaml:3: early_terminate.min_iter has no effect beside max_iter, as in W&B: rungs at epochs 3, 9",
        ),
        ("max_iter: 9, s: 2", "mine.yaml:3: early_terminate.max_iter is 9, epochs up to 27"),
        ("min_iter: 2, strict: true", "mine.yaml:3: strict: true has no effect"),
        ("min_iter: 27", "mine.yaml:3: no trial is stopped early: min_iter is 27, epochs 27"),
        ("min_iter: 2, strict: false", ""),
        ("max_iter: 27, s: 2", ""),
    ],
)
def test_a_key_of_early_terminate_without_effect_is_one_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rule: str, warning: str
) -> None:
    space_of(tmp_path, "epochs: {value: 27}", rest=f"early_terminate: {{type: hyperband, {rule}}}\n")

    assert [warning in message for message in caplog.messages] == [True] * bool(warning)


def test_what_the_refusal_of_max_iter_without_s_offers_is_accepted(tmp_path: Path) -> None:
    rest = "early_terminate: {{type: hyperband, min_iter: 2{}}}\n"
    with pytest.raises(SpaceError, match="max_iter but not s") as caught:
        space_of(tmp_path, "epochs: {value: 27}", rest=rest.format(", max_iter: 27"))
    assert caught.value.args[2] == "Leave max_iter out for rungs from min_iter on, or write s"

    for offered in ("", ", max_iter: 27, s: 2"):
        assert space_of(tmp_path, "epochs: {value: 27}", rest=rest.format(offered)).early_terminate is not None


@pytest.mark.parametrize(
    "rule, words",
    [
        ("{type: median, min_iter: 2}", "'median'"),
        ("{min_iter: 2}", "a mapping, no rule"),
        ("{type: hyperband}", "neither"),
        ("{type: hyperband, min_iter: 0}", "min_iter is 0"),
        ("{type: hyperband, min_iter: 2, eta: 1}", "eta is 1"),
        ("{type: hyperband, max_iter: 27}", "not s"),
        ("{type: hyperband, max_iter: 27, s: 2, eta: 30}", "less than eta"),
        ("{type: hyperband, min_iter: 2, grace: 1}", "grace is unknown"),
        ("{type: hyperband, min_iter: 2, strict: maybe}", "strict is 'maybe'"),
        ("hyperband", "not a mapping"),
    ],
)
def test_an_unclear_rule_for_stopping_early_is_refused(tmp_path: Path, rule: str, words: str) -> None:
    text = f"method: random\n{METRIC}early_terminate: {rule}\nparameters: {{epochs: {{value: 27}}}}\n"

    where, what, _ = fault(tmp_path, text)

    assert where == "mine.yaml:3"
    assert words in what


def test_a_rung_after_the_last_epoch_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rest = "early_terminate: {type: hyperband, min_iter: 5}\n"

    with caplog.at_level(logging.WARNING):
        space_of(tmp_path, "epochs: {value: 5}", rest=rest)

    assert "no trial is stopped early: min_iter is 5, epochs 5" in caplog.text


# As W&B is given it


@pytest.mark.parametrize(
    "parameter",
    [
        "dropout: {value: 0.5}",
        "hidden_units: {value: null}",
        "batch_size: {values: [16, 32]}",
        "dropout: {values: [0.1, 0.2], probabilities: [0.25, 0.75]}",
        "epochs: {min: 1, max: 4}",
        "dropout: {min: 0.0, max: 0.5}",
        "learning_rate: {distribution: log_uniform, min: -9.0, max: -2.0}",
        "learning_rate: {distribution: log_uniform_values, min: 0.001, max: 0.1}",
        "learning_rate: {distribution: inv_log_uniform, min: 2.0, max: 9.0}",
        "dropout: {distribution: q_uniform, min: 0.0, max: 0.5, q: 0.1}",
        "hidden_units: {distribution: q_log_uniform_values, min: 16, max: 64, q: 1}",
        "dropout: {distribution: normal, mu: 0.3, sigma: 0.1}",
        "dropout: {distribution: q_beta, a: 2, b: 3, q: 0.1}",
    ],
)
def test_a_parameter_as_wandb_is_given_it_is_the_same_parameter(tmp_path: Path, parameter: str) -> None:
    space = space_of(tmp_path, parameter)
    config = to_sweep_config(space, name="first")
    again = space_of(tmp_path, yaml.safe_dump(config["parameters"]))
    drawn = [
        [to_recipe(one, point, seed=0) for point in itertools.islice(points(one, seed=1), 20)] for one in (space, again)
    ]

    assert (config["method"], config["metric"]) == ("custom", {"name": "val_accuracy", "goal": "maximize"})
    assert drawn[0] == drawn[1]


def test_what_wandb_would_act_on_is_not_in_its_sweep(tmp_path: Path) -> None:
    rest = "run_cap: 3\nearly_terminate: {type: hyperband, min_iter: 2}\nname: mine\n"
    config = to_sweep_config(
        space_of(tmp_path, "epochs: {min: 3, max: 9}", rest=rest, dropout=[0.1, 0.2]), name="first"
    )

    assert config.keys() == {"method", "name", "description", "metric", "parameters"}
    assert (config["name"], config["parameters"]["dropout"]) == ("mine", {"values": [0.1, 0.2]})


# Settings of the command line


def test_settings_are_read_as_a_file_would_read_them() -> None:
    settings = ["epochs=5", "learning_rate=[1e-3, 1e-4]", "hidden_units=null", "augmentation=none"]

    assert parse_settings(settings) == {
        "epochs": 5,
        "learning_rate": [1e-3, 1e-4],
        "hidden_units": None,
        "augmentation": "none",
    }


@pytest.mark.parametrize(
    "setting", ["epochs", "=5", "epochs=", "epochs= ", "epochs=[1", "epochs=1: 2: 3", "epochs=!!int a", "epochs={1: 2}"]
)
def test_an_option_that_is_not_a_setting_is_refused_as_it_was_typed(setting: str) -> None:
    with pytest.raises(SpaceError) as caught:
        parse_settings([setting])
    assert caught.value.args[0] == f"--set {setting}"


def test_a_setting_given_twice_is_refused() -> None:
    with pytest.raises(SpaceError, match="twice"):
        parse_settings(["epochs=5", "epochs=6"])


def test_a_setting_takes_the_place_of_a_parameter_and_keeps_its_place(tmp_path: Path) -> None:
    parameters = "learning_rate: {values: [0.1, 0.01]}\nepochs: {value: 3}"

    space = space_of(tmp_path, parameters, method="grid", learning_rate=0.5, epochs=[1, 2], dropout=0)

    assert [parameter.name for parameter in space.parameters] == ["learning_rate", "epochs", "dropout"]
    assert space.searched == ("epochs",)
    assert list(points(space, seed=0)) == [
        {"learning_rate": 0.5, "epochs": 1, "dropout": 0.0},
        {"learning_rate": 0.5, "epochs": 2, "dropout": 0.0},
    ]


@pytest.mark.parametrize(
    "settings, what",
    [
        ({"learnign_rate": 0.1}, "learnign_rate is not a setting of the recipe"),
        ({"epochs": 0}, "epochs is 0: Input should be greater than or equal to 1"),
        ({"epochs": [5, 0]}, "epochs[1] is 0: Input should be greater than or equal to 1"),
        ({"epochs": [5, 5]}, "epochs[1] is 5, which the list has already"),
        ({"epochs": []}, "epochs is an empty list"),
        ({"epochs": {"min": 1}}, "epochs has only min"),
        ({"epochs": [[1]]}, "epochs[0] is a list"),
        ({"warmup_epochs": 50}, "warmup_epochs is 50, but the run has only 40 epochs"),
        ({"warmup_epochs": [0, 50]}, "warmup_epochs is 50, but the run has only 40 epochs"),
        ({"epochs": 2}, "warmup_epochs is 3, but the run has only 2 epochs"),
        ({"monitor": "val_loss"}, "monitor is not the space's metric, val_accuracy"),
        ({"folds": [2, 3]}, "folds has several values: scores over other folds cannot be compared"),
    ],
)
def test_a_setting_is_checked_like_a_file_and_named_as_it_was_typed(
    tmp_path: Path, settings: dict[str, Any], what: str
) -> None:
    with pytest.raises(SpaceError) as caught:
        space_of(tmp_path, "epochs: {value: 40}\nwarmup_epochs: {value: 3}", **settings)

    assert caught.value.args[:2] == (f"--set {next(iter(settings))}", what)


# Points


def test_a_grid_has_every_point_once_the_last_parameter_fastest(tmp_path: Path) -> None:
    parameters = "epochs: {values: [3, 1]}\nbatch_size: {min: 8, max: 10}\nseed: {value: 7}"
    space = space_of(tmp_path, parameters, method="grid")

    found = [(point["epochs"], point["batch_size"], point["seed"]) for point in points(space, seed=0)]

    assert found == list(itertools.product([3, 1], [8, 9, 10], [7]))
    assert num_points(space) == 6


@settings(max_examples=40)
@given(
    values=st.lists(st.integers(1, 10_000), min_size=1, max_size=4, unique=True),
    shares=st.lists(st.integers(0, 98).map(lambda share: share / 100), min_size=1, max_size=4, unique=True),
    low=st.integers(1, 100),
    width=st.integers(1, 5),
)
def test_a_grid_is_the_product_of_its_values_whatever_they_are(
    tmp_path_factory: pytest.TempPathFactory, values: list[int], shares: list[float], low: int, width: int
) -> None:
    parameters = f"batch_size: {{values: {values}}}\ndropout: {{values: {shares}}}\n"
    parameters += f"epochs: {{min: {low}, max: {low + width}}}"
    space = space_of(tmp_path_factory.mktemp("space"), parameters, method="grid")

    found = [tuple(point.values()) for point in points(space, seed=0)]

    assert found == list(itertools.product(values, shares, range(low, low + width + 1)))


def test_a_grid_of_steps_lists_multiples_as_a_person_writes_them(tmp_path: Path) -> None:
    space = space_of(tmp_path, "dropout: {distribution: q_uniform, min: 0.05, max: 0.45, q: 0.1}", method="grid")

    assert [point["dropout"] for point in points(space, seed=0)] == [0.1, 0.2, 0.3, 0.4]


def test_a_grid_of_a_billion_points_begins_at_once(tmp_path: Path) -> None:
    parameters = "seed: {min: 0, max: 2147483647}\nepochs: {min: 1, max: 10000}"
    space = space_of(tmp_path, parameters, method="grid")

    assert num_points(space) == 2**31 * 10_000
    assert next(points(space, seed=0)) == {"seed": 0, "epochs": 1}


def test_run_cap_ends_a_grid_and_a_random_search(tmp_path: Path) -> None:
    grid = space_of(tmp_path, "epochs: {min: 1, max: 100}", method="grid", rest="run_cap: 3\n")
    random = space_of(tmp_path, "epochs: {min: 1, max: 100}", rest="run_cap: 5\n")

    assert [point["epochs"] for point in points(grid, seed=0)] == [1, 2, 3]
    assert len(list(points(random, seed=0))) == num_points(random) == 5


def test_a_bayes_space_has_no_points_of_its_own(tmp_path: Path) -> None:
    space = space_of(tmp_path, "dropout: {min: 0.0, max: 0.5}", method="bayes")

    assert num_points(space) is None
    with pytest.raises(ValueError, match="suggested"):
        next(points(space, seed=0))


RANDOM = """\
    learning_rate: {distribution: log_uniform_values, min: 1.0e-5, max: 1.0e-1}
    weight_decay: {distribution: inv_log_uniform_values, min: 1.0e-5, max: 1.0e-1}
    batch_size: {distribution: q_log_uniform_values, min: 10, max: 100, q: 8}
    epochs: {min: 1, max: 4}
    hidden_units: {values: [null, 64, 256]}
    dropout: {distribution: q_uniform, min: 0.1, max: 0.9, q: 0.25}
    label_smoothing: {min: 0.0, max: 0.2}
    trunk_lr_factor: {distribution: log_normal, mu: -2, sigma: 2}
    augmentation_strength: {distribution: normal, mu: 1, sigma: 1}
    momentum: {distribution: beta, a: 5, b: 1}
    patience: {distribution: q_normal, mu: 2, sigma: 2, q: 1}
"""


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31 - 1))
def test_every_random_point_is_a_recipe_within_its_ends(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    space = space_of(tmp_path_factory.mktemp("space"), RANDOM)

    for point in itertools.islice(points(space, seed=seed), 10):
        recipe = to_recipe(space, point, seed=0)
        for parameter in space.parameters:
            value = getattr(recipe, parameter.name)
            assert value == point[parameter.name]
            if parameter.low is not None and parameter.high is not None:
                assert parameter.low <= value <= parameter.high
            if parameter.step is not None:
                assert math.isclose(value / parameter.step, round(value / parameter.step))


def test_a_random_point_depends_on_the_seed_and_its_number_alone(tmp_path: Path) -> None:
    space = space_of(tmp_path, RANDOM)
    first = list(itertools.islice(points(space, seed=3), 20))
    again = list(itertools.islice(points(space, seed=3), 40))

    assert again[:20] == first
    assert list(itertools.islice(points(space, seed=4), 20)) != first
    assert len({point["learning_rate"] for point in again}) == 40


def test_a_parameter_more_leaves_the_draws_of_the_others_alone(tmp_path: Path) -> None:
    small = space_of(tmp_path, "learning_rate: {min: 0.0001, max: 0.1}")
    large = space_of(tmp_path, "epochs: {min: 1, max: 5}\nlearning_rate: {min: 0.0001, max: 0.1}")

    for one_point, other in itertools.islice(zip(points(small, seed=0), points(large, seed=0), strict=True), 10):
        assert one_point["learning_rate"] == other["learning_rate"]


def test_random_points_are_the_same_in_every_process(tmp_path: Path) -> None:
    space_of(tmp_path, RANDOM)
    code = f"""if True:
        from itertools import islice
        from pathlib import Path
        from ferray.space import points, read_space
        print(list(islice(points(read_space(Path({str(tmp_path / "mine.yaml")!r})), seed=3), 3)))
    """
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(REPOSITORY)},
        ).stdout
        for seed in ("1", "2")
    }

    assert outputs == {f"{list(itertools.islice(points(space_of(tmp_path, RANDOM), seed=3), 3))}\n"}


def test_int_uniform_includes_both_ends_equally(tmp_path: Path) -> None:
    counts = Counter(draws(tmp_path, "epochs: {min: 1, max: 4}"))

    assert set(counts) == {1, 2, 3, 4}
    assert max(counts.values()) < 1.3 * min(counts.values())


def test_log_uniform_takes_natural_log_exponents(tmp_path: Path) -> None:
    values = draws(tmp_path, "learning_rate: {distribution: log_uniform, min: -9.0, max: -1.0}")

    assert math.exp(-9) <= min(values) < math.exp(-8.9)
    assert math.exp(-1.1) < max(values) <= math.exp(-1)
    assert median(map(math.log, values)) == pytest.approx(-5, abs=0.3)


def test_log_uniform_values_takes_values(tmp_path: Path) -> None:
    values = draws(tmp_path, "learning_rate: {distribution: log_uniform_values, min: 1.0e-5, max: 1.0e-1}")

    assert median(map(math.log10, values)) == pytest.approx(-3, abs=0.2)


def test_inv_log_uniform_takes_exponents_of_the_reciprocal(tmp_path: Path) -> None:
    parameter = one(tmp_path, "learning_rate: {distribution: inv_log_uniform, min: 1.0, max: 9.0}")

    assert (parameter.low, parameter.high) == (pytest.approx(math.exp(-9)), pytest.approx(math.exp(-1)))


def test_probabilities_weigh_values(tmp_path: Path) -> None:
    counts = Counter(draws(tmp_path, "dropout: {values: [0.1, 0.2, 0.3], probabilities: [0.8, 0.2, 0.0]}"))

    assert set(counts) == {0.1, 0.2}
    assert counts[0.1] / 2000 == pytest.approx(0.8, abs=0.04)


def test_normal_and_beta_have_their_means(tmp_path: Path) -> None:
    normal = draws(tmp_path, "augmentation_strength: {distribution: normal, mu: 1.0, sigma: 0.2}")
    beta = draws(tmp_path, "momentum: {distribution: beta, a: 9, b: 1}")
    fixed = draws(tmp_path, "momentum: {distribution: normal, mu: 0.5, sigma: 0}", count=3)

    assert mean(normal) == pytest.approx(1.0, abs=0.03)
    assert mean(beta) == pytest.approx(0.9, abs=0.03)
    assert fixed == [0.5] * 3


def test_a_distribution_that_misses_the_recipe_ends_with_an_error(tmp_path: Path) -> None:
    space = space_of(tmp_path, "dropout: {distribution: normal, mu: 100, sigma: 1}")

    with pytest.raises(SpaceError, match="1000 draws for point 0 gave no recipe"):
        next(points(space, seed=0))


@pytest.mark.parametrize(
    "parameter, kind, low, high, log, step",
    [
        ("epochs: {min: 1, max: 4}", "int", 1, 4, False, None),
        ("dropout: {min: 0.0, max: 0.5}", "float", 0.0, 0.5, False, None),
        ("dropout: {distribution: uniform, min: 0, max: 0.5}", "float", 0.0, 0.5, False, None),
        ("dropout: {distribution: q_uniform, min: 0.05, max: 0.52, q: 0.1}", "float", 0.1, 0.5, False, 0.1),
        ("batch_size: {distribution: q_uniform, min: 10, max: 70, q: 16.0}", "int", 16, 64, False, 16),
        ("batch_size: {distribution: q_log_uniform_values, min: 8, max: 64}", "int", 8, 64, True, 1),
        ("learning_rate: {distribution: log_uniform_values, min: 0.001, max: 0.1}", "float", 0.001, 0.1, True, None),
        ("learning_rate: {distribution: inv_log_uniform_values, min: 0.01, max: 0.1}", "float", 0.01, 0.1, True, None),
    ],
)
def test_a_range_has_all_that_tpe_needs(
    tmp_path: Path, parameter: str, kind: str, low: float, high: float, log: bool, step: float | None
) -> None:
    found = one(tmp_path, parameter, method="bayes")

    assert (found.kind, found.low, found.high, found.log, found.step) == (kind, low, high, log, step)
    assert type(found.low) is type(low)
    assert found.largest == high
    assert found.searched


def test_a_suggestion_lands_on_the_steps(tmp_path: Path) -> None:
    space = space_of(tmp_path, "dropout: {distribution: q_uniform, min: 0.1, max: 0.5, q: 0.1}", method="bayes")

    assert to_recipe(space, {"dropout": 0.1 + 0.1 + 0.1}, seed=0).dropout == 0.3


def test_a_recipe_takes_the_metric_the_seed_and_what_has_one_value(tmp_path: Path) -> None:
    space = space_of(tmp_path, "dropout: {value: 0.25}\nepochs: {values: [1, 2]}", method="grid")

    recipe = to_recipe(space, {"epochs": 2}, seed=11)

    assert recipe == Recipe(dropout=0.25, epochs=2, seed=11, monitor="val_accuracy")


def test_a_seed_of_the_space_is_the_recipes(tmp_path: Path) -> None:
    space = space_of(tmp_path, "seed: {values: [1, 2]}\nepochs: {value: 1}", method="grid")

    assert [to_recipe(space, point, seed=9).seed for point in points(space, seed=9)] == [1, 2]


def test_a_point_with_a_foreign_name_is_refused(tmp_path: Path) -> None:
    space = space_of(tmp_path, "epochs: {value: 1}")

    with pytest.raises(SpaceError, match="unknown setting 'epoch'"):
        to_recipe(space, {"epoch": 2}, seed=0)


def test_without_epochs_the_largest_is_not_made_up() -> None:
    words = Parameter(name="freeze", kind="values", distribution="categorical", values=("none", "trunk"))

    with pytest.raises(ValueError, match="no largest value"):
        _ = words.largest


def test_with_folds_every_point_is_a_recipe_and_may_name_its_fold(tmp_path: Path) -> None:
    space = space_of(tmp_path, "folds: {value: 3}\ndropout: {values: [0.0, 0.5]}", method="grid")
    assert space.folds == 3
    recipes = [to_recipe(space, point, seed=0) for point in points(space, seed=0)]
    assert [(recipe.folds, recipe.fold, recipe.dropout) for recipe in recipes] == [(3, 0, 0.0), (3, 0, 0.5)]
    assert to_recipe(space, {"dropout": 0.5, "fold": 2}, seed=0).fold == 2


def test_folds_and_stopping_early_do_not_go_together(tmp_path: Path) -> None:
    rest = "early_terminate: {type: hyperband, min_iter: 1}\n"
    with pytest.raises(SpaceError, match="folds is 3, but early_terminate"):
        space_of(tmp_path, "folds: {value: 3}\ndropout: {min: 0.0, max: 0.5}", rest=rest)


# Forms of sweep files that people have published for W&B

WITH_RUNGS = "early_terminate: {{type: hyperband, {}}}\n"
READ_FORMS: dict[str, tuple[str, str, int | None, tuple[int, ...]]] = {
    "ends with !!float": ("random", "learning_rate: {min: !!float 1e-5, max: !!float 1e-3}", None, ()),
    "one end with !!float": ("bayes", "learning_rate: {min: !!float 1e-5, max: 0.1}\nrun_cap: 5", 5, ()),
    "powers of ten as values": ("bayes", "learning_rate: {distribution: categorical, values: [1e-5, 9e-6]}", 2, ()),
    "powers of ten as ends": ("bayes", "learning_rate: {min: 1e-5, max: 5e-4}", None, ()),
    "all values are lists": ("bayes", "shuffle_labels: {values: [True, False]}\nseed: {values: [1, 2, 3]}", 6, ()),
    "a group": ("bayes", "model: {parameters: {epochs: {values: [40, 60]}}}", 2, ()),
    "null": ("grid", "hidden_units: {values: [null, 64]}", 2, ()),
    "a constant by its distribution": ("grid", "seed: {distribution: constant, value: 1}", 1, ()),
    "a grid of quoted words": ("grid", "seed: {values: [1, 2]}\naugmentation: {values: ['none', 'light']}", 4, ()),
    "a value twice in a grid": ("grid", "weight_decay: {values: [0, 5e-5, 5e-5]}", 2, ()),
    "exponents": ("bayes", "weight_decay: {distribution: log_uniform, min: -6.9, max: -2.3}", None, ()),
    "steps": ("bayes", "warmup_epochs: {distribution: q_uniform, min: 5, max: 20, q: 5}\nepochs: {value: 300}", 4, ()),
    "probabilities": ("random", "optimizer: {values: [adam, sgd], probabilities: [0.9, 0.1]}", 2, ()),
    "a normal distribution": ("random", "dropout: {distribution: normal, mu: 0.3, sigma: 0.1}", None, ()),
    "rungs from min_iter": ("bayes", "epochs: {value: 50}\nmin_iter: 20, eta: 2", 1, (20, 40)),
    "rungs from max_iter": ("bayes", "epochs: {value: 27}\ns: 2, eta: 3, max_iter: 27", 1, (3, 9)),
    "min_iter with s": ("bayes", "epochs: {value: 27}\nmin_iter: 2, eta: 3, s: 2", 1, (2, 6, 18)),
    "every key of hyperband": (
        "bayes", "epochs: {value: 300}\nmin_iter: 100, max_iter: 200, eta: 3, s: 4", 1, (2, 7, 22, 66)
    ),
    "min_iter alone": ("bayes", "epochs: {value: 2000}\nmin_iter: 50", 1, (50, 150, 450, 1350)),
    "a program with its command": ("random", "epochs: {min: 1, max: 3}\nprogram: t.py", 3, ()),
}  # fmt: skip
"""Method, parameters, and perhaps a key of the file or the keys of a rule for stopping; then points and rungs."""


@pytest.mark.parametrize("form", READ_FORMS)
def test_a_form_of_sweep_files_that_people_write_is_read(tmp_path: Path, form: str) -> None:
    method, text, count, rungs = READ_FORMS[form]
    lines = text.split("\n")
    rest = "".join(WITH_RUNGS.format(line) if rungs else f"{line}\n" for line in lines if "{" not in line)
    parameters = [line for line in lines if "{" in line]
    if rungs:  # a bayes space must have something to search
        parameters.append("dropout: {values: [0.25, 0.5]}")
        count = 2

    space = space_of(tmp_path, "\n".join(parameters), method=method, rest=rest)

    assert num_points(space) == count
    assert (space.early_terminate.rungs_below(10_000) if space.early_terminate else ()) == rungs


@pytest.mark.parametrize(
    "text, words",
    [
        ("scheduler: {engine: wandb, num_workers: 8}\n", "scheduler is for W&B's agents"),
        ("parameters:\n  epochs: {value: 1}\n  epochs: {value: 2}\n", "given twice"),
        ("parameters:\n  seed: {values: 3}\n", "not a list"),
        ("parameters:\n  dropout: {values: [0.1, 0.1]}\n", "has already"),
        ("parameters:\n  learning_rate: {distribution: log_uniform, min: 1e-4, max: 1e-3}\n", "natural-log exponents"),
        ("metric: {name: val_loss, goal: minimise}\n", "'minimise'"),
        ("early_terminate: {type: hyperband, min_iter: 10, max_iter: 150}\n", "max_iter but not s"),
    ],
)
def test_a_form_that_wandb_would_not_search_as_meant_is_refused(tmp_path: Path, text: str, words: str) -> None:
    rest = "" if "metric" in text else METRIC
    rest += "" if "parameters" in text else "parameters: {epochs: {value: 150}}\n"

    _, what, _ = fault(tmp_path, f"method: random\n{rest}{text}")

    assert words in what


def test_a_setting_on_the_command_line_may_be_a_distribution_or_a_cap(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("method: random\nrun_cap: 4\nparameters: {dropout: {min: 0.0, max: 0.5}}\n")
    settings = ["dropout={distribution: q_uniform, min: 0.1, max: 0.7, q: 0.1}", "run_cap=9"]
    space = read_space(file, parse_settings(settings))
    (dropout,) = space.parameters
    assert (dropout.low, dropout.high, dropout.step) == (0.1, 0.7, 0.1)
    assert space.run_cap == 9
    assert read_space(file).run_cap == 4
    for setting, words in (
        ("dropout={min: 0.5}", "--set dropout: dropout has only min"),
        ("dropout={min: 0.5, max: 1.5}", "--set dropout: dropout.max is 1.5"),
        ("run_cap=[1, 2]", "--set run_cap: run_cap is a list"),
        ("run_cap=0", "--set run_cap: run_cap is 0"),
    ):
        with pytest.raises(SpaceError, match=re.escape(words)):
            read_space(file, parse_settings([setting]))


@pytest.mark.parametrize("seeds, warns", [("values: [0, 1, 2]", True), ("value: 3", False)])
def test_seeds_that_may_be_stopped_one_by_one_are_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, seeds: str, warns: bool
) -> None:
    rest = "early_terminate: {type: hyperband, min_iter: 2}\n"
    space_of(tmp_path, f"epochs: {{value: 27}}\nseed: {{{seeds}}}", rest=rest)

    assert ["scores of unlike epochs" in message for message in caplog.messages] == [True] * warns
