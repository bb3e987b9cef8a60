"""Cartoon faces: a person, an expression and a pose are drawn as anti-aliased polygons on a canvas.

Lengths and coordinates are as in `ferray.data.demo.shapes`. A face of 90 pixels, drawn four times as large and averaged
down, takes 4 ms.

Begin at `draw_face`; `EXPRESSIONS` has the differences between a happy and a sad face.
"""

from dataclasses import astuple, dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ferray.data.demo.shapes import Color, Pen, Points, Pose, band, curve, mix, oval, path, pick_color, rounded, shade

WHITE: Color = (250, 248, 244)
DARK: Color = (52, 26, 24)
TONGUE: Color = (214, 96, 104)
SKINS: tuple[Color, ...] = (
    (255, 224, 200),
    (246, 205, 172),
    (232, 184, 146),
    (214, 160, 118),
    (190, 134, 94),
    (158, 106, 72),
    (126, 82, 56),
    (98, 64, 46),
)
HAIRS: tuple[Color, ...] = (
    (32, 26, 26),
    (58, 38, 28),
    (96, 62, 38),
    (142, 96, 52),
    (206, 166, 96),
    (168, 78, 40),
    (168, 166, 166),
)
IRISES: tuple[Color, ...] = ((70, 44, 28), (98, 62, 30), (70, 108, 70), (74, 116, 160), (96, 104, 112))
STYLES = ("bald", "short", "side", "curly", "bob", "long", "bun", "cap")


@dataclass(frozen=True)
class Expression:
    """The positions of brows, eyes and mouth."""

    brow_inner: float = 0.0
    """Rise of the brows' inner ends."""
    brow_outer: float = 0.0
    """Rise of their outer ends."""
    eye_open: float = 1.0
    """Height of the upper lids, 1 at rest."""
    squint: float = 0.0
    """Rise of the lower lids and cheeks, up to 1."""
    mouth_corners: float = 0.0
    """Rise of the corners above the middle of the mouth."""
    mouth_open: float = 0.0
    """Gap between the lips."""
    mouth_width: float = 1.0
    """Width of the mouth, 1 at rest."""
    teeth: float = 0.0
    """Part of the gap that the teeth fill, up to 1."""
    lip_raise: float = 0.0
    """Rise of the upper lip, more on one side, up to 1."""
    tongue: float = 0.0
    """Length of the tongue below the lip."""
    nose_wrinkle: float = 0.0
    """Depth of the folds across the nose, up to 1."""


EXPRESSIONS: dict[str, Expression] = {
    "angry": Expression(-0.17, 0.09, 0.80, 0.30, -0.13, 0.21, 0.95, 1.0, 0.2, 0.0, 0.25),
    "disgust": Expression(-0.07, -0.03, 0.50, 0.60, -0.16, 0.10, 0.95, 0.0, 1.3, 0.20, 1.0),
    "fear": Expression(0.17, 0.00, 1.50, 0.00, -0.14, 0.30, 1.20, 0.7, 0.0, 0.0, 0.0),
    "happy": Expression(0.03, 0.03, 0.85, 0.55, 0.26, 0.34, 1.30, 0.8, 0.0, 0.0, 0.0),
    "sad": Expression(0.15, -0.12, 0.62, 0.10, -0.27, 0.00, 0.85, 0.0, 0.0, 0.0, 0.0),
    "surprise": Expression(0.19, 0.20, 1.60, 0.00, 0.00, 0.60, 0.62, 0.0, 0.0, 0.0, 0.0),
    "neutral": Expression(),
}
"""Every expression at full strength; the names are the classes, in the order of the labels."""

_SPREAD = Expression(0.025, 0.025, 0.09, 0.06, 0.035, 0.03, 0.07, 0.12, 0.08, 0.03, 0.08)
"""Standard deviations of the differences between faces of one expression."""


@dataclass(frozen=True)
class Person:
    """The parts of a face that do not change with the expression."""

    skin: Color
    hair: Color
    iris: Color
    style: str
    clothes: Color
    jaw: float
    """Width of the jaw, 1 on average."""
    eyes: float
    """Size of the eyes, 1 on average."""
    brows: float
    """Thickness of the brows, 1 on average."""
    nose: float
    """Length of the nose, 1 on average."""
    beard: str
    """`none`, `moustache` or `beard`."""
    glasses: str
    """`none`, `clear` or `dark`."""


def draw_person(random: np.random.Generator) -> Person:
    """Draw the features of a person at random."""
    tone = float(random.uniform(0, len(SKINS) - 1))
    skin = mix(SKINS[int(tone)], SKINS[int(tone) + 1], tone % 1)
    dark_skin = tone > 4
    return Person(
        skin=skin,
        hair=HAIRS[int(random.integers(0, 3 if dark_skin else len(HAIRS)))],
        iris=IRISES[int(random.integers(0, 2 if dark_skin else len(IRISES)))],
        style=STYLES[int(random.integers(len(STYLES)))],
        clothes=pick_color(random),
        jaw=float(random.normal(1, 0.07)),
        eyes=float(random.normal(1, 0.07)),
        brows=float(random.normal(1, 0.15)),
        nose=float(random.normal(1, 0.10)),
        beard=str(random.choice(["none", "moustache", "beard"], p=[0.84, 0.07, 0.09])),
        glasses=str(random.choice(["none", "clear", "dark"], p=[0.82, 0.14, 0.04])),
    )


def draw_expression(name: str, random: np.random.Generator, *, intensity: float) -> Expression:
    """One face's variation of an expression.

    Args:
        name: A name in `EXPRESSIONS`.
        random: Draws the differences between faces.
        intensity: 0 is neutral, 1 is the expression at full strength.
    """
    rest, full = np.array(astuple(EXPRESSIONS["neutral"])), np.array(astuple(EXPRESSIONS[name]))
    values = rest + intensity * (full - rest) + random.normal(0, np.array(astuple(_SPREAD)))
    made = Expression(*(float(value) for value in values))
    return replace(
        made,
        eye_open=max(0.25, made.eye_open),
        squint=min(1.0, max(0.0, made.squint)),
        mouth_open=max(0.0, made.mouth_open),
        teeth=min(1.0, max(0.0, made.teeth)),
        lip_raise=max(0.0, made.lip_raise),
        tongue=max(0.0, made.tongue - 0.06),
        nose_wrinkle=max(0.0, made.nose_wrinkle),
    )


def draw_face(canvas: NDArray[np.uint8], person: Person, expression: Expression, pose: Pose) -> None:
    """Draw a head with neck and shoulders onto a canvas, RGB, shape (height, width, 3)."""
    pen = Pen(canvas, pose)
    _draw_body(pen, person)
    _draw_head(pen, person)
    _draw_nose(pen, person, expression)
    _draw_mouth(pen, person, expression)
    for side in (-1, 1):
        _draw_eye(pen, person, expression, side)
        _draw_brow(pen, person, expression, side)
    _draw_hair(pen, person)
    _draw_glasses(pen, person)


def _draw_body(pen: Pen, person: Person) -> None:
    if person.style in ("long", "bob"):
        low = 1.25 if person.style == "long" else 0.75
        fall = rounded((-0.9, low), (-1, 0), (-0.9, -1), (0, -1.3), (0.9, -1), (1, 0), (0.9, low), (0, low))
        pen.fill(fall, person.hair)
    pen.fill(path((-0.34, 0.6), (0.34, 0.6), (0.4, 1.5), (-0.4, 1.5)), shade(person.skin, 0.78))
    shoulder = [(0.36, 1.18), (0.9, 1.28), (1.6, 1.5), (1.8, 2.2), (1.8, 3.2)]
    mirrored = [(-x, y) for x, y in reversed(shoulder)]
    pen.fill(rounded(*mirrored, (-0.36, 1.1), (0, 1.4), (0.36, 1.1), *shoulder), person.clothes)
    if person.style == "bun":
        pen.fill(oval(0, -1.18, 0.34, 0.3), person.hair)
    if person.style == "curly":
        for turn in np.linspace(np.pi * 0.95, np.pi * 2.05, 11):
            pen.fill(oval(0.82 * np.cos(turn), -0.15 + 0.88 * np.sin(turn), 0.27, 0.27), person.hair)


def _draw_head(pen: Pen, person: Person) -> None:
    for side in (-1, 1):
        pen.fill(oval(side * 0.8, 0.02, 0.13, 0.2), shade(person.skin, 0.86))
    outline = _head_outline(person)
    pen.fill(outline, person.skin)
    for side in (-1, 1):
        pen.fill(oval(side * 0.46, 0.3, 0.17, 0.13), mix(person.skin, (226, 96, 88), 0.14))
    if person.beard == "beard":
        lower = outline[outline[:, 1] > 0.25]
        upper = curve((-0.76, 0.25), (0, 0.62), (0.76, 0.25))
        pen.fill(np.concatenate([lower, upper]), mix(person.hair, person.skin, 0.25))
    pen.stroke(outline, shade(person.skin, 0.62), 0.025, closed=True)


def _head_outline(person: Person) -> Points:
    turn = np.linspace(0, 2 * np.pi, 72, endpoint=False)
    x, y = np.cos(turn), np.sin(turn)
    narrowing = np.where(y > 0, 1 - 0.22 * y**2 * (2 - person.jaw), 1.0)
    return np.stack([0.8 * x * narrowing, np.where(y > 0, 1.0 * y, 1.05 * y)], axis=1)


def _draw_nose(pen: Pen, person: Person, expression: Expression) -> None:
    line = shade(person.skin, 0.60)
    tip = 0.12 + 0.14 * person.nose - 0.05 * min(1.0, expression.nose_wrinkle)
    pen.fill(oval(0, tip - 0.03, 0.12, 0.08), shade(person.skin, 0.92))
    pen.stroke(curve((-0.13, tip - 0.02), (0, tip + 0.09), (0.13, tip - 0.02)), line, 0.035)
    pen.stroke(curve((0.06, -0.12), (0.1, 0.04), (0.12, tip - 0.08)), shade(person.skin, 0.8), 0.03)
    wrinkle = min(1.0, expression.nose_wrinkle)
    if wrinkle > 0.2:
        for place in range(3):
            y, half = -0.14 + 0.085 * place, 0.11 - 0.012 * place
            pen.stroke(curve((-half, y - 0.02), (0, y + 0.05), (half, y - 0.02)), line, 0.015 + 0.025 * wrinkle)
    frown = -expression.brow_inner
    if frown > 0.05:
        for side in (-1, 1):
            pen.stroke(path((side * 0.06, -0.42), (side * 0.05, -0.25)), line, min(0.04, 0.25 * frown))
    if expression.brow_inner + expression.brow_outer > 0.2:
        for y in (-0.66, -0.74):
            pen.stroke(curve((-0.26, y), (0, y - 0.04), (0.26, y)), shade(person.skin, 0.75), 0.02)
    depth = max(expression.lip_raise, 4 * expression.mouth_corners, 0)
    if depth > 0.3:
        for side in (-1, 1):
            fold = curve((side * 0.17, tip - 0.04), (side * 0.36, tip + 0.06), (side * 0.43, 0.52))
            pen.stroke(fold, shade(person.skin, 0.70), min(0.035, 0.03 * depth))


def _draw_mouth(pen: Pen, person: Person, expression: Expression) -> None:
    lip = mix(shade(person.skin, 0.75), (176, 44, 56), 0.45)
    half, middle = 0.37 * expression.mouth_width, 0.54
    rise, gap = expression.mouth_corners, expression.mouth_open
    sneer = 0.09 * expression.lip_raise
    corner_y = middle - 0.6 * rise
    roundness = max(0.5, 1 - gap)  # a closed mouth is a parabola, a wide-open one an ellipse
    across = -np.cos(np.linspace(0, np.pi, 25))
    bow = (1 - across**2) ** roundness
    tilt = -0.35 * sneer * across
    upper = np.stack([half * across, corner_y + bow * (0.8 * rise - 0.42 * gap - sneer) + tilt], axis=1)
    lower = np.stack([half * across, corner_y + bow * (0.8 * rise + 0.58 * gap - 0.3 * sneer) + tilt], axis=1)
    if person.beard != "none":
        hair = mix(person.hair, person.skin, 0.15)
        high = upper[len(upper) // 2, 1] - 0.13
        tips = [(-half - 0.1, corner_y + 0.08), (half + 0.1, corner_y + 0.08)]
        pen.fill(rounded(tips[0], (-0.12, high), (0.12, high), tips[1], (0, high + 0.1)), hair)
    if gap > 0.02 or sneer > 0.02:
        pen.fill(np.concatenate([upper, lower[::-1]]), DARK)
        if expression.teeth > 0.15:
            pen.fill(band(upper, lower, 0.0, 0.2 + 0.35 * expression.teeth), WHITE)
            if expression.teeth > 0.6 and rise < 0.1:
                pen.fill(band(upper, lower, 0.62, 1.0), WHITE)
        elif gap > 0.12:
            pen.fill(band(upper, lower, 0.66, 1.0)[6:-6], TONGUE)
    pen.stroke(upper, lip, 0.055)
    pen.stroke(lower, lip, 0.065)
    if gap <= 0.06:
        pen.stroke((upper + lower) / 2, DARK, 0.035)
    if expression.tongue > 0.03:
        length = expression.tongue
        bottom = lower[len(lower) // 2, 1]
        pen.fill(oval(0, bottom + 0.4 * length, 0.14, 0.03 + 0.75 * length), TONGUE)
        pen.stroke(path((0, bottom), (0, bottom + 0.5 * length)), shade(TONGUE, 0.75), 0.02)


def _draw_eye(pen: Pen, person: Person, expression: Expression, side: int) -> None:
    x0, y0, half = side * 0.35, -0.13, 0.22 * person.eyes
    upper_y = 0.34 * person.eyes * expression.eye_open**0.9
    lower_y = 0.20 * person.eyes * (1 - 0.85 * expression.squint)
    droop = 0.5 * min(0.0, expression.brow_outer)  # lids follow the outer brow down
    inner, outer = (x0 - side * half, y0 + 0.01), (x0 + side * half, y0 - droop * 0.5)
    upper = curve(inner, (x0, y0 - upper_y - droop), outer)
    lower = curve(inner, (x0, y0 + lower_y), outer)
    pen.fill(np.concatenate([upper, lower[::-1]]), WHITE)
    for color, radius in ((person.iris, 0.125), ((18, 14, 16), 0.065)):
        disc = oval(x0, y0 - 0.015, radius * person.eyes, radius * person.eyes)
        order = np.argsort(upper[:, 0])
        top = np.interp(disc[:, 0], upper[order, 0], upper[order, 1])
        bottom = np.interp(disc[:, 0], lower[order, 0], lower[order, 1])
        disc[:, 1] = np.clip(disc[:, 1], top, np.maximum(top, bottom))
        pen.fill(disc, color)
    if expression.eye_open > 0.45:
        pen.fill(oval(x0 - 0.035, y0 - 0.05, 0.025, 0.025), WHITE)
    pen.stroke(upper, DARK, 0.045)
    pen.stroke(lower, shade(person.skin, 0.55), 0.022)
    if expression.eye_open < 1.1:
        fold = upper - np.array([0, 0.06])
        pen.stroke(fold[4:-4], shade(person.skin, 0.72), 0.02)
    if expression.squint > 0.3:
        pen.stroke(lower[5:-5] + np.array([0, 0.07]), shade(person.skin, 0.72), 0.022)


def _draw_brow(pen: Pen, person: Person, expression: Expression, side: int) -> None:
    y0 = -0.47
    inner, outer = (side * 0.13, y0 - expression.brow_inner), (side * 0.58, y0 + 0.03 - expression.brow_outer)
    arch = 0.08 + 0.25 * max(0.0, min(expression.brow_inner, expression.brow_outer))
    ridge = curve(inner, ((inner[0] + outer[0]) / 2, (inner[1] + outer[1]) / 2 - arch), outer)
    thickness = 0.075 * person.brows * np.linspace(1.1, 0.35, len(ridge))
    above, below = ridge.copy(), ridge.copy()
    above[:, 1] -= thickness
    below[:, 1] += thickness
    pen.fill(np.concatenate([above, below[::-1]]), shade(person.hair, 0.6))


def _draw_hair(pen: Pen, person: Person) -> None:
    outline = _head_outline(person)
    crown = outline[outline[:, 1] < -0.5] * np.array([1.04, 1.06])
    crown = crown[np.argsort(crown[:, 0])]
    fringes = {
        "short": rounded((0.74, -0.5), (0.6, -0.72), (0, -0.8), (-0.6, -0.72), (-0.74, -0.5)),
        "side": rounded((0.74, -0.5), (0.66, -0.6), (0.3, -0.66), (-0.4, -0.92), (-0.7, -0.7), (-0.74, -0.5)),
        "curly": rounded((0.76, -0.5), (0.6, -0.72), (0.2, -0.6), (-0.1, -0.8), (-0.4, -0.6), (-0.76, -0.5)),
        "bob": rounded((0.9, 0.3), (0.7, -0.3), (0.6, -0.66), (-0.6, -0.66), (-0.7, -0.3), (-0.9, 0.3)),
        "long": rounded((0.9, 0.8), (0.76, -0.2), (0.5, -0.66), (0, -1), (-0.5, -0.66), (-0.76, -0.2), (-0.9, 0.8)),
        "bun": rounded((0.74, -0.5), (0.6, -0.78), (0, -0.92), (-0.6, -0.78), (-0.74, -0.5)),
        "cap": rounded((0.76, -0.5), (0.5, -0.66), (-0.5, -0.66), (-0.76, -0.5)),
    }
    if person.style in fringes:
        color = person.clothes if person.style == "cap" else person.hair
        pen.fill(np.concatenate([crown, fringes[person.style]]), color)
    if person.style == "cap":
        brim = rounded((-0.9, -0.5), (-0.4, -0.74), (0.4, -0.74), (0.9, -0.5), (0.4, -0.6), (-0.4, -0.6))
        pen.fill(brim, shade(color, 0.7))


def _draw_glasses(pen: Pen, person: Person) -> None:
    if person.glasses == "none":
        return
    frame: Color = (30, 28, 32)
    for side in (-1, 1):
        lens = oval(side * 0.35, -0.1, 0.26, 0.22)
        if person.glasses == "dark":
            pen.fill(lens, (40, 40, 48))
        pen.stroke(lens, frame, 0.035, closed=True)
        pen.stroke(path((side * 0.61, -0.12), (side * 0.82, -0.08)), frame, 0.035)
    pen.stroke(curve((-0.1, -0.12), (0, -0.18), (0.1, -0.12)), frame, 0.035)
