"""Rung 4: Ray Tune alone: a function trainable with the loop of rung 2, whose processes are used again.

python -m ladder_rungs.ray_tune JOB
"""

import sys
from typing import Any

import ray
import torch
from ladder_rungs.training import Job, read_job, train_point
from ray import tune


def main(job: Job) -> None:
    """Search with Tune's defaults, a CPU a trial, or a GPU where there is one."""

    def trainable(config: dict[str, Any]) -> None:
        train_point(job, config["point"], told=lambda accuracy: tune.report({"val_accuracy": accuracy}))

    ray.init(address="local", num_cpus=job.cpus, include_dashboard=False)
    tuner = tune.Tuner(
        tune.with_resources(trainable, {"cpu": 1, "gpu": 1 if torch.cuda.is_available() else 0}),
        param_space={"point": tune.grid_search(list(range(len(job.points))))},
        tune_config=tune.TuneConfig(metric="val_accuracy", mode="max", reuse_actors=True),
        run_config=tune.RunConfig(name="ray_tune", storage_path=job.scratch),
    )
    check(tuner.fit())
    ray.shutdown()


def check(results: tune.ResultGrid) -> None:
    """A trial that failed fails the rung."""
    if results.errors:
        raise SystemExit(f"{len(results.errors)} trials failed: {results.errors[0]}")


if __name__ == "__main__":
    main(read_job(sys.argv[1]))
