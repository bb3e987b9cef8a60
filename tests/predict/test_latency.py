"""What a latency is the percentile of, and what is stated beside it."""

import json
from pathlib import Path

import pytest
import torch

from ferray.commands.report import main
from ferray.predict.latency import WARM_UP, measure_latency


def test_percentiles_are_of_the_calls_after_the_warm_up(best_dir: Path) -> None:
    slow, timed = [60.0] * WARM_UP, [0.001 * number for number in range(1, 101)]
    ticks = iter(_clock(slow, timed))
    latency = measure_latency(best_dir, calls=100, batch_sizes=(2,), clock=lambda: next(ticks))
    (row,) = latency.batches
    assert (row.batch, row.p50_ms, row.p95_ms) == (2, pytest.approx(50.5), pytest.approx(95.05))
    assert row.pictures_per_s == pytest.approx(2 / 0.0505)


def _clock(slow: list[float], timed: list[float]) -> list[float]:
    """The clock at the beginning of each call, and at the end of those that are timed."""
    ticks, now = [], 0.0
    for seconds in slow:
        ticks.append(now)
        now += seconds
    for seconds in timed:
        ticks += [now, now + seconds]
        now += seconds
    return ticks


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_a_latency_says_what_it_was_measured_with(
    runtime: str, best_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    asked = ["latency", str(best_dir), "--calls", "3", "--threads", str(threads), "--runtime", runtime]
    assert main([*asked, "--json"]) == 0
    value = json.loads(capsys.readouterr().out)
    assert [row["batch"] for row in value["batches"]] == [1, 32]
    assert all(0 < row["p50_ms"] <= row["p95_ms"] for row in value["batches"])
    assert (value["runtime"], value["device"], value["threads"], value["calls"]) == (runtime, "cpu", threads, 3)
    assert value["num_parameters"] == 8 * 27 + 8 + 8 * 72 + 8 + 8 * 72 + 8 + 16 * 72 + 16 + 16 * 144 + 16 + 391
    if runtime == "torch":
        assert value["num_bytes"] == (best_dir / "model.safetensors").stat().st_size
        assert main(asked) == 0
        shown = capsys.readouterr().out
        assert all(words in shown for words in ("p50 ms", "p95 ms", "threads     ", "cpu: ", "3 calls each"))


def test_onnxruntime_is_refused_on_a_gpu_with_a_way_out(best_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["latency", str(best_dir), "--runtime", "onnxruntime", "--device", "cuda"]) == 2
    assert "--runtime torch" in capsys.readouterr().err
