"""A space as the configuration of a W&B sweep whose points come from ferray.

Begin at `to_sweep_config`.
"""

from typing import Any

from ferray.space.definition import Space
from ferray.space.parameter import Parameter


def to_sweep_config(space: Space, *, name: str) -> dict[str, Any]:
    """The configuration of the sweep that the runs of a search belong to.

    Its method is `custom`, which W&B's schema has for sweeps whose points come from a program. The cap of the space and
    its rule for stopping early are left out, since W&B would act on them.

    Args:
        space: With the settings of the command line.
        name: Of the sweep, unless the file has one.

    Returns:
        JSON values. Parameters have the names of settings, as in the configuration of the runs, also where the file
        has them in groups.
    """
    return {
        "method": "custom",
        "name": space.title or name,
        "description": f"ferray, method {space.method}",
        "metric": {"name": space.metric.name, "goal": space.metric.goal},
        "parameters": {parameter.name: _to_config(parameter) for parameter in space.parameters},
    }


def _to_config(parameter: Parameter) -> dict[str, Any]:
    if parameter.kind == "value":
        return {"value": parameter.values[0]}
    if parameter.kind == "values":
        shares = {} if parameter.probabilities is None else {"probabilities": list(parameter.probabilities)}
        return {"values": list(parameter.values), **shares}
    config: dict[str, Any] = {"distribution": parameter.distribution}
    if parameter.shape is not None:
        names = ("a", "b") if parameter.distribution.endswith("beta") else ("mu", "sigma")
        config |= dict(zip(names, parameter.shape, strict=True))
    else:
        # The ends are values, also where the file has their logarithms.
        is_of_exponents = parameter.distribution.endswith("log_uniform")
        config["distribution"] += "_values" if is_of_exponents else ""
        config |= {"min": parameter.low, "max": parameter.high}
    return config if parameter.step is None else {**config, "q": parameter.step}
