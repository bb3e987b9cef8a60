"""Copies: every altered copy is found, nothing else is, whatever the threads and the order of the work."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.fft import dctn

from ferray.data.copies import candidates
from ferray.data.copies import find as copies
from ferray.data.copies.candidates import find_candidates
from ferray.data.copies.find import Copies, find_copies, join_places
from ferray.data.copies.gradients import Candidate
from ferray.data.copies.sketch import Sketches, make_sketch, sketch_all
from ferray.data.threads import Threads

Picture = NDArray[np.uint8]
NUM = 24


def draw(seed: int, width: int = 300, height: int = 220) -> Picture:
    """Shapes on a smooth background: with points to match, and different for each seed."""
    generator = np.random.default_rng(seed)
    small = generator.integers(60, 200, (7, 9, 3), dtype=np.uint8)
    picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(60):
        place = [int(at) for at in generator.integers(0, [width, height])]
        color = [int(part) for part in generator.integers(0, 256, 3)]
        size = int(generator.integers(3, max(4, width // 12)))
        if generator.random() < 0.5:
            cv2.circle(picture, place, size, color, -1)
        else:
            cv2.rectangle(picture, place, [place[0] + size, place[1] + size // 2 + 2], color, -1)
    return np.asarray(picture, dtype=np.uint8)


def draw_face(seed: int) -> Picture:
    """A face, 48x48, gray: a structure common to all faces, and one of its own."""
    generator = np.random.default_rng(seed)
    own = cv2.resize(generator.normal(0, 1, (14, 14)).astype(np.float32), (48, 48), interpolation=cv2.INTER_CUBIC)
    y, x = np.mgrid[-1:1:48j, -1:1:48j]
    shared = 200 * np.exp(-2 * (x**2 + y**2)) - 90 * np.exp(-60 * ((abs(x) - 0.35) ** 2 + (y + 0.2) ** 2))
    gray = np.clip(shared + 22 * own + 30, 0, 255).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def compress(picture: Picture, quality: int) -> Picture:
    _, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(content, cv2.IMREAD_COLOR), dtype=np.uint8)


def scale(picture: Picture, factor: float) -> Picture:
    return np.asarray(cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def write_on(picture: Picture) -> Picture:
    return np.asarray(cv2.putText(picture.copy(), "WORDS", (10, 40), 0, 1.5, (255, 255, 255), 4), dtype=np.uint8)


ALTER: dict[str, Callable[[Picture], Picture]] = {
    "mirrored": lambda picture: np.ascontiguousarray(picture[:, ::-1]),
    "rescaled": lambda picture: scale(picture, 0.6),
    "recompressed": lambda picture: compress(picture, 25),
    "cut": lambda picture: picture[9:-4, 14:-8].copy(),
    "brightened": lambda picture: cv2.convertScaleAbs(picture, alpha=0.8, beta=40).astype(np.uint8),
    "mirrored, cut and recompressed": lambda picture: compress(picture[6:, :-10][:, ::-1], 50),
}


def sketch(pictures: Sequence[Picture]) -> Sketches:
    return sketch_all(len(pictures), lambda place: pictures[place], Threads())


def find(pictures: Sequence[Picture], kind: str = "photographs", num_threads: int | None = None) -> Copies:
    threads = Threads(num=num_threads)
    return find_copies(sketch(pictures), lambda place: pictures[place], kind=kind, threads=threads)  # type: ignore[arg-type]


def correlate(sketches: Sketches, mirrored: bool) -> NDArray[np.float32]:
    even, odd = sketches.even @ sketches.even.T, sketches.odd @ sketches.odd.T
    return even - odd if mirrored else even + odd


# What is found


def with_copies(
    pictures: Sequence[Picture], alter: dict[str, Callable[[Picture], Picture]]
) -> tuple[list[Picture], list[tuple[int, int, bool]]]:
    """The pictures and an altered copy of each of the first, and the pairs: first, second, whether it is mirrored."""
    copies = [change(picture) for change, picture in zip(alter.values(), pictures, strict=False)]
    pairs = [(at, len(pictures) + at, "mirrored" in name) for at, name in enumerate(alter)]
    return [*pictures, *copies], pairs


def test_every_altered_copy_of_a_photograph_is_found_and_nothing_else() -> None:
    pictures, pairs = with_copies([draw(seed) for seed in range(NUM)], ALTER | {"written on": write_on})

    found = find(pictures)

    assert [(pair.first, pair.second, pair.mirrored) for pair in found.pairs] == pairs
    assert found.groups.tolist() == [*range(NUM), *range(len(pairs))]


def test_every_altered_copy_of_a_small_face_is_found_and_nothing_else() -> None:
    alter = {"cut": lambda face: face[2:-1, 1:-2].copy(), "mirrored, cut and recompressed": ALTER["mirrored"]}
    faces, pairs = with_copies([draw_face(seed) for seed in range(NUM)], ALTER | alter)

    for kind in ("faces", "photographs"):  # photographs that small are compared as faces are
        found = find(faces, kind)

        assert [(pair.first, pair.second, pair.mirrored) for pair in found.pairs] == pairs
        assert {pair.kind for pair in found.pairs} == {"crop"}


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("kind", ["photographs", "faces"])
def test_a_pair_maps_places_of_the_first_to_places_of_the_second(kind: str, mirrored: bool) -> None:
    first = draw(0, 320, 300)
    second = scale(first[10:, 20:][:, :: -1 if mirrored else 1], 0.5)

    (pair,) = find([first, second], kind).pairs

    for x, y in ((60, 80), (200, 70), (150, 250)):
        found = [a * x + b * y + c for a, b, c in pair.warp]
        across = (x - 20) / 2
        assert found == pytest.approx([149 - across if mirrored else across, (y - 10) / 2], abs=1.5)


def test_equal_pixels_are_one_group_whatever_they_show(caplog: pytest.LogCaptureFixture) -> None:
    white, gray = np.full((40, 40, 3), 255, dtype=np.uint8), np.full((40, 40, 3), 128, dtype=np.uint8)
    pictures = [white, draw(0), gray, white.copy(), draw(0), white[:30].copy(), white.copy()]

    found = find(pictures)

    assert found.groups.tolist() == [0, 1, 2, 0, 1, 5, 0]
    assert [(pair.first, pair.second, pair.kind) for pair in found.pairs] == [
        (0, 3, "pixels"), (0, 6, "pixels"), (1, 4, "pixels"),
    ]  # fmt: skip
    assert found.flat == (0, 2, 3, 5, 6)
    assert found.num_compared == 0


def test_equal_files_are_distinguished_from_equal_pixels() -> None:
    picture = draw(0)
    sketches = Sketches(3, digest_of="bytes")
    for place, digest in enumerate((b"one file", b"one file", b"another file")):
        sketches.put(place, make_sketch(picture, digest=digest))

    found = find_copies(sketches, lambda place: picture, kind="photographs", threads=Threads())

    assert [(pair.first, pair.second, pair.kind) for pair in found.pairs] == [(0, 1, "bytes"), (0, 2, "pixels")]


def test_a_place_that_was_never_filled_has_no_copy() -> None:
    sketches = Sketches(3, digest_of="bytes")
    sketches.put(1, make_sketch(draw(1)))

    found = find_copies(sketches, lambda place: draw(1), kind="photographs", threads=Threads())

    assert found.groups.tolist() == [0, 1, 2]


def test_what_is_nearly_a_copy_is_listed_and_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = [draw_face(0), draw_face(1), compress(draw_face(0), 40)]
    monkeypatch.setattr(copies, "FACE_THRESHOLDS", (copies._Threshold("crop", 0, 1.1),))

    found = find(faces, "faces")

    assert found.groups.tolist() == [0, 1, 2]
    assert [(pair.first, pair.second) for pair in found.borderline] == [(0, 2)]


def test_a_further_pair_is_compared_though_its_sketches_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    pictures = [draw(0), draw(1), draw(0)[:150, 60:].copy()]
    assert find(pictures).pairs == ()
    also = [Candidate(2, 0, False), Candidate(1, 1, True)]

    found = find_copies(
        sketch(pictures), lambda place: pictures[place], kind="photographs", also=also, threads=Threads()
    )

    assert [(pair.first, pair.second, pair.kind) for pair in found.pairs] == [(0, 2, "photograph")]


def test_a_picture_with_too_many_candidates_is_reported_and_its_group_stays_whole(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(candidates, "MAX_CANDIDATES", 3)
    faces = [compress(draw_face(0), quality) for quality in range(30, 50)]

    found = find(faces, "faces")

    assert len(set(found.groups.tolist())) == 1
    assert found.capped[:3] == (0, 1, 2)
    assert found.num_compared < 60
    assert "resemble more than 3 others" in caplog.text


def test_pictures_that_only_resemble_their_neighbors_in_a_chain_are_not_copies() -> None:
    """As written digits do: each is like some other, and a group of them would be a whole class."""
    generator = np.random.default_rng(0)
    some, others = generator.normal(0, 1, (2, 48, 48))
    drawn = [some * np.cos(angle) + others * np.sin(angle) for angle in np.linspace(0, 2 * np.pi, 41)[:-1]]
    blurred = [cv2.GaussianBlur(each, (0, 0), 2) for each in drawn]
    chain = [np.repeat(np.clip(128 + 150 * each, 0, 255).astype(np.uint8)[..., None], 3, axis=2) for each in blurred]
    copied = [compress(draw_face(0), quality) for quality in range(30, 50)]

    found = find([*chain, *copied, copied[0]], "faces")

    assert found.chained == tuple(range(40))
    assert found.groups[:40].tolist() == list(range(40))
    assert found.groups[40:].tolist() == [40] * 21, "20 versions of one picture and its equal are copies"


def test_the_result_does_not_depend_on_threads_or_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = [draw_face(seed) for seed in range(NUM)]
    faces += [compress(face, 40) for face in faces[:9]]
    one = find(faces, "faces", num_threads=1)
    monkeypatch.setattr(candidates, "_TILE", 100)

    other = find(faces, "faces", num_threads=4)

    assert (one.pairs, one.groups.tolist()) == (other.pairs, other.groups.tolist())
    assert len(one.pairs) == 9


# The parts


def test_sketches_correlate_as_pictures_filtered_in_frequency_do() -> None:
    pictures = [draw(seed, 90, 70) for seed in range(8)]
    sketches = sketch(pictures)

    def filtered(picture: Picture) -> NDArray[np.float64]:
        small = cv2.cvtColor(cv2.resize(picture, (32, 32), interpolation=cv2.INTER_AREA), cv2.COLOR_BGR2GRAY)
        waves = dctn(small.astype(np.float64), norm="ortho")[:16, :16]
        return (waves * np.hypot(*np.mgrid[:16, :16])).ravel()

    for mirrored in (False, True):
        turned = [picture[:, ::-1] if mirrored else picture for picture in pictures]
        wanted = np.array([[_cosine(filtered(one), filtered(other)) for other in turned] for one in pictures])
        found = correlate(sketches, mirrored)
        assert np.abs(found - wanted).max() < 0.02  # gray levels of the turned pictures are rounded


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_selected_sketches_keep_everything_that_the_search_reads() -> None:
    pictures = [draw(seed, 90 + seed, 70 + seed) for seed in range(4)] + [np.full((50, 50, 3), 9, dtype=np.uint8)]

    selected, wanted = sketch(pictures).select(np.array([4, 1, 3])), sketch([pictures[at] for at in (4, 1, 3)])

    for name, values in vars(wanted).items():
        assert np.array_equal(getattr(selected, name), values), name


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("first", [0, 1])
def test_the_correlation_of_a_moved_picture_is_the_best_of_all_moves(first: int, mirrored: bool) -> None:
    whole = draw(0, 99, 77)
    pictures = [
        whole[7:, :-9],
        whole[:-7, 9:],
    ]  # one shows more at the left and below, the other at the right and above
    sketches = sketch([np.ascontiguousarray(picture) for picture in pictures])
    places = np.array([first]), np.array([1 - first]), np.array([mirrored])
    one, other = sketches._reconstruct(np.array([first, 1 - first]))
    other = other[:, ::-1] if mirrored else other

    moves = [np.roll(other, (down, across), (0, 1)) for down in range(-4, 5) for across in range(-4, 5)]

    best = max(float((one * moved).sum()) for moved in moves)
    assert sketches.correlate_shifted(*places)[0] == pytest.approx(best, abs=1e-4)
    assert mirrored or best > 0.6 > correlate(sketches, mirrored=False)[0, 1]


def test_candidates_are_all_pairs_above_the_smallest_correlation(monkeypatch: pytest.MonkeyPatch) -> None:
    faces = [draw_face(seed) for seed in range(60)]
    sketches = sketch(faces)
    monkeypatch.setattr(candidates, "MIN_SHIFTED_CORRELATION", -1.0)
    monkeypatch.setattr(candidates, "_TILE", 500)

    plain = correlate(sketches, mirrored=False)
    turned = correlate(sketches, mirrored=True)
    alike = {
        (one, other, bool(turned[one, other] > plain[one, other])): float(max(plain[one, other], turned[one, other]))
        for one in range(60)
        for other in range(one + 1, 60)
    }
    strongest = sorted(alike, key=lambda pair: -alike[pair])
    least = (alike[strongest[199]] + alike[strongest[200]]) / 2

    found = find_candidates(sketches, np.arange(60), np.full(60, least), show_progress=False)

    assert {tuple(candidate) for candidate in found.pairs} == set(strongest[:200])
    assert len(found.pairs) == 200
    assert not found.capped


@given(st.integers(1, 12), st.data())
@settings(max_examples=60, deadline=None)
def test_groups_are_what_can_be_reached_through_pairs(num: int, data: st.DataObject) -> None:
    ends = st.tuples(st.integers(0, num - 1), st.integers(0, num - 1))
    pairs = data.draw(st.lists(ends, max_size=15))

    groups = join_places(num, pairs)

    reach = np.eye(num, dtype=bool)
    for one, other in pairs:
        reach[one, other] = reach[other, one] = True
    for _ in range(num):
        reach = (reach.astype(int) @ reach.astype(int)) > 0
    assert groups.tolist() == [int(np.flatnonzero(row)[0]) for row in reach]
