"""Search spaces: W&B sweep files, checked, as points and recipes.

    find_space       a name or a path to a file
    read_space       the file as a `Space`, checked as W&B checks sweeps and strictly against the recipe
    points           a grid's points in order, or random ones; TPE suggests its own
    to_recipe        a point to the `Recipe` that is trained
    to_sweep_config  the file as W&B is given it, for a sweep whose points come from ferray

Read `definition` first, then `reading`; `settings` reads the parameters, `parameter` draws their values, `sampling`
makes the points. No module here imports a heavy library, since `--dry-run` and every usage error use them.
"""

from ferray.space.definition import Hyperband, Metric, Space
from ferray.space.parameter import Parameter
from ferray.space.reading import find_space, parse_settings, read_space
from ferray.space.sampling import num_existing_points, num_points, points, to_recipe
from ferray.space.sweep_config import to_sweep_config

__all__ = [
    "Hyperband",
    "Metric",
    "Parameter",
    "Space",
    "find_space",
    "num_existing_points",
    "num_points",
    "parse_settings",
    "points",
    "read_space",
    "to_recipe",
    "to_sweep_config",
]
