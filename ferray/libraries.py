"""The versions of libraries that are a part of identities, since they were seen to change numbers.

Begin at `altering_libraries`; `building_library` is for timm's backbones.
"""

import functools
import importlib.metadata

from ferray.errors import RecipeError

TIMM = "timm/"
"""Begins the name of a backbone that timm builds."""


@functools.cache
def altering_libraries() -> str:
    """The versions of the libraries that alter pictures, as far as others were seen to alter them differently.

    OpenCV 5 moves pixels otherwise than OpenCV 4; later parts of both versions made the same pictures. See
    `docs/decisions/0044-versions-in-identities.md`, which also says why torch and the device are not here.
    """
    albumentations = importlib.metadata.version("albumentations").split(".")
    opencv = importlib.metadata.version("opencv-python-headless").split(".")
    return f"albumentations {'.'.join(albumentations[:2])}, OpenCV {opencv[0]}"


@functools.cache
def building_library(backbone: str) -> str:
    """The version of the library that builds a trunk, as far as versions build it differently; empty for most.

    timm changes most of its models from each version to the next. See
    `docs/decisions/0049-trunks-of-five-blocks.md` for why torchvision's version is not here.

    Raises:
        RecipeError: It is not installed.
    """
    if not backbone.startswith(TIMM):
        return ""
    try:
        return f"timm {importlib.metadata.version('timm')}"
    except importlib.metadata.PackageNotFoundError as error:
        raise RecipeError(f"backbone {backbone}", "timm is not installed", "pip install 'ferray[timm]'") from error
