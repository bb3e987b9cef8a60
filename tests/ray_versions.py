"""Run the tests of a search with several versions of Ray: the lowest that pyproject.toml takes, and the pinned one.

ferray relies on parts of Ray that a release may change (`ferray/search/fleet/ray_patches.py`), so its versions are
bounded on both sides. Before the upper bound is raised, give the new version: `make test-ray ARGS=2.61.0`.

A version that is not the installed one gets a virtual environment in a folder of the present one, with that Ray alone;
all other packages are those of the present one. It takes a minute and 300 MB, once.
"""

import os
import site
import subprocess
import sys
import tomllib
import venv
from importlib.metadata import version
from pathlib import Path

from packaging.requirements import Requirement

REPOSITORY = Path(__file__).resolve().parent.parent
TESTS = ["tests/search", "tests/hostile/test_secrets.py"]


def main(versions: list[str]) -> int:
    """Test with each version; 1 if a test fails with one of them."""
    versions = versions or [lowest_version(), version("ray")]
    failed = [one for one in versions if not passes(one)]
    print(f"ray {', '.join(versions)}: " + (f"failed with {', '.join(failed)}" if failed else "all tests passed"))
    return 1 if failed else 0


def lowest_version() -> str:
    """The lower bound of ray in pyproject.toml."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    (ray,) = [one for one in map(Requirement, project["dependencies"]) if one.name == "ray"]
    (lowest,) = [bound.version for bound in ray.specifier if bound.operator == ">="]
    return lowest


def passes(ray_version: str) -> bool:
    """Run the tests, but for the slow ones, with a version of Ray."""
    python = Path(sys.executable) if ray_version == version("ray") else make_environment(ray_version)
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}  # the searches run in folders of their own
    show = "import ray; print('ray', ray.__version__, ray.__file__)"
    subprocess.run([python, "-c", show], env=environment, check=True)
    done = subprocess.run([python, "-m", "pytest", *TESTS], cwd=REPOSITORY, env=environment, check=False)
    return done.returncode == 0


def make_environment(ray_version: str) -> Path:
    """A virtual environment that has this version of Ray and the present one's other packages; returns its Python."""
    folder = Path(sys.prefix) / f"ray-{ray_version}"
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        install = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*install, f"ray=={ray_version}"], check=True)
        (packages,) = folder.glob("lib/*/site-packages")
        others = [folder for folder in site.getsitepackages() if Path(folder).is_dir()]
        # Read after the folder that it lies in, so that this Ray is found before the present one.
        (packages / "others.pth").write_text("".join(f"import site; site.addsitedir({one!r})\n" for one in others))
        (folder / "complete").touch()
    return python


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
