"""Rung 3: Ray's documented pattern: each Tune trial starts a Ray Train run of its own, with the loop of rung 2.

Rung 3b is the same with `RAY_TRAIN_HEALTH_CHECK_INTERVAL_S=0.05` in its environment.

    python -m ladder_rungs.ray_train JOB

Source: "Hyperparameter Tuning with Ray Tune" of Ray Train's user guides.
"""

import sys
import time
from typing import Any

import ray
import ray.train
import torch
from ladder_rungs.ray_tune import check
from ladder_rungs.training import Job, read_job, train_point
from ray import tune
from ray.train.torch import TorchTrainer
from ray.tune.integration.ray_train import TuneReportCallback


def train_on_worker(config: dict[str, Any]) -> None:
    """What the one worker of a trial does; it may use the cores that nobody else has asked for."""
    job: Job = config["job"]
    torch.set_num_threads(job.cpus // job.lanes)
    report = ray.train.report
    train_point(job, config["point"], told=lambda accuracy: report({"val_accuracy": accuracy}), begun=config["begun"])


def run_trial(config: dict[str, Any]) -> None:
    """The Tune trial, which only drives."""
    trainer = TorchTrainer(
        train_on_worker,
        train_loop_config={**config, "begun": time.time()},
        scaling_config=ray.train.ScalingConfig(num_workers=1, use_gpu=torch.cuda.is_available()),
        run_config=ray.train.RunConfig(
            name=f"train-{tune.get_context().get_trial_id()}",
            storage_path=config["job"].scratch,
            callbacks=[TuneReportCallback()],
        ),
    )
    trainer.fit()


def main(job: Job) -> None:
    """Search; as the guide says, no more trials at once than their workers find resources for, else all wait."""
    ray.init(address="local", num_cpus=job.cpus, include_dashboard=False)
    tuner = tune.Tuner(
        run_trial,
        param_space={"job": job, "point": tune.grid_search(list(range(len(job.points))))},
        tune_config=tune.TuneConfig(metric="val_accuracy", mode="max", max_concurrent_trials=job.lanes),
        run_config=tune.RunConfig(name="ray_train", storage_path=job.scratch),
    )
    check(tuner.fit())
    ray.shutdown()


if __name__ == "__main__":
    main(read_job(sys.argv[1]))
