"""Rung 5: Optuna in one process, with the loop of rung 2.

python -m ladder_rungs.optuna_alone JOB
"""

import sys

import optuna
from ladder_rungs.training import Job, read_job, train_point


def main(job: Job) -> None:
    """Search; the grid is over the points' numbers, since they may be a part of a product only."""

    def objective(trial: optuna.Trial) -> float:
        return train_point(job, trial.suggest_int("point", 0, len(job.points) - 1))

    sampler = optuna.samplers.GridSampler({"point": list(range(len(job.points)))}, seed=job.seed)
    optuna.create_study(direction="maximize", sampler=sampler).optimize(objective, n_trials=len(job.points))


if __name__ == "__main__":
    main(read_job(sys.argv[1]))
