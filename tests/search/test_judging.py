"""Where a search has its winner judged: on a node, or here with all cores; no Ray is started."""

import signal
from types import SimpleNamespace
from typing import Any, Never

import pytest
import ray
import torch

from ferray.search import judging as module
from ferray.search import run as story
from ferray.search.fleet.judge import NoNodeError, RemoteJudge
from ferray.search.fleet.ray_patches import RAY_EXEC
from ferray.search.judging import Judging, answers_here
from ferray.search.outcome.answers import HERE, Answers
from ferray.signals import StopRequest, catch_signals


def of_search(address: str | None) -> Any:
    return SimpleNamespace(plan=SimpleNamespace(address=address))


def must_not_connect() -> Never:
    pytest.fail("a cluster was connected to")


def test_a_search_on_one_machine_is_judged_here_and_on_a_cluster_only_what_is_asked_connects() -> None:
    ranking: Any = None
    with Judging(of_search(None), must_not_connect).answers(ranking) as answers:
        assert answers == HERE
    with Judging(of_search("auto"), must_not_connect).answers(ranking) as answers:
        assert answers.validation is not None
        assert answers.split is not None


def test_ctrl_c_while_a_judge_is_asked_leaves_at_once_and_ends_the_judge(monkeypatch: pytest.MonkeyPatch) -> None:
    def press_ctrl_c(_: Any, timeout: float) -> Never:
        assert timeout <= 1.0, "a signal is handled between two waits"
        signal.raise_signal(signal.SIGINT)
        pytest.fail("it went on after Ctrl-C")

    ended: list[str] = []
    actor = SimpleNamespace(validation=SimpleNamespace(remote=lambda _: "an answer"))
    judge = RemoteJudge(Any, Any, preferred=[])  # type: ignore[arg-type]
    judge._actor = actor
    monkeypatch.setattr(ray, "wait", press_ctrl_c)
    monkeypatch.setattr(ray, "kill", lambda _: ended.append("judge"))
    judging = Judging(of_search("auto"), must_not_connect)
    monkeypatch.setattr(judging, "_make_judge", lambda _: judge)

    def ask_about(trial: Any, ranking: Any = None) -> None:
        with catch_signals() as stop, judging.answers(ranking) as answers, stop.raised():
            assert answers.validation is not None
            answers.validation(trial)

    with pytest.raises(KeyboardInterrupt):
        ask_about("a trial")
    assert ended == ["judge"]


def test_a_cluster_without_a_node_that_could_judge_leaves_it_to_this_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    used: list[Answers] = []

    def judge(*arguments: Any) -> str:
        used.append(arguments[-1])
        if used[-1] is not HERE:
            raise NoNodeError
        return "the outcome"

    monkeypatch.setattr(story, "rank_search", lambda *_: None)
    monkeypatch.setattr(story, "_judge", judge)
    judging, unused = Judging(of_search("auto"), must_not_connect), Any
    assert story._conclude(of_search("auto"), [], StopRequest(), unused, judging) == "the outcome"  # type: ignore[comparison-overlap,arg-type]
    assert used[0] is not HERE
    assert used[1:] == [HERE]
    assert "the winner is judged here" in capsys.readouterr().err


@pytest.mark.parametrize("by", ["ray exec", "the user"])
def test_one_thread_that_only_ray_exec_has_set_is_no_limit_here(by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "num_allowed_cores", lambda: 2)
    for name, value in RAY_EXEC.items():
        monkeypatch.setenv(name, value)
    if by == "the user":
        monkeypatch.delenv("PYTHONWARNINGS")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with answers_here():
            assert torch.get_num_threads() == (2 if by == "ray exec" else 1)
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
