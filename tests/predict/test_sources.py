"""The pictures that a command line names, and the faces in them."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest

from ferray.data.sources.rows import Box
from ferray.errors import DataError, StorageError
from ferray.predict.model import PictureFile, Unreadable
from ferray.predict.sources import find_faces, list_pictures


def listed(*names: str, stdin: str = "") -> list[PictureFile]:
    return list_pictures(names, io.StringIO(stdin))


def test_files_folders_and_names_on_stdin_are_listed_in_order(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "notes.txt", ".hidden.png", "more/c.webp", ".cache/d.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    inside = [f"{tmp_path}/{name}" for name in ("a.png", "b.JPG", "more/c.webp")]
    assert [one.path for one in listed("x.bin", str(tmp_path))] == ["x.bin", *inside]
    assert [one.path for one in listed("-", "y", stdin="a b.png\n\n c.png\r\n")] == ["a b.png", " c.png", "y"]


def test_a_folder_without_pictures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no pictures"):
        listed(str(tmp_path))


def test_a_table_has_paths_from_its_own_folder_and_boxes(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("bottom,path,left,top,right\n40,a.png,1,2,30\n,b.png,,,\n")
    found = listed(str(tmp_path / "a.csv"))
    assert found == [
        PictureFile(str(tmp_path / "a.png"), Box(left=1, top=2, right=30, bottom=40)),
        PictureFile(str(tmp_path / "b.png")),
    ]


@pytest.mark.parametrize(
    "text, place, what",
    [
        ("file\na.png\n", "a.csv", "no column path"),
        ("", "a.csv", "no column path"),
        ("path,left\na.png,1\n", "a.csv", "has no top, right, bottom"),
        ('path\n""\n', "a.csv:2", "the path is empty"),
        ("path,left,top,right,bottom\na.png,1,2,x,4\n", "a.csv:2", "right 'x'"),
        ("path,left,top,right,bottom\na.png,1,2,,4\n", "a.csv:2", "right ''"),
        ("path,left,top,right,bottom\na.png,5,2,5,4\n", "a.csv:2", "is empty"),
    ],
)
def test_a_fault_of_a_table_is_named_with_its_line(text: str, place: str, what: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError) as error:
        listed(str(tmp_path / "a.csv"))
    assert place in error.value.args[0]
    assert what in error.value.args[1]


def test_a_table_that_is_not_there_or_not_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="No such file"):
        listed(str(tmp_path / "none.csv"))
    (tmp_path / "a.csv").write_bytes(b"path\n\xff\xfe\n")
    with pytest.raises(DataError, match="not UTF-8"):
        listed(str(tmp_path / "a.csv"))


def test_faces_of_real_photographs_are_found_where_they_are(shared_dir: Path) -> None:
    pytest.importorskip("skimage")
    rows = [line.split() for line in (shared_dir / "expw" / "label.lst").read_text().splitlines()]
    good = [row for row in rows if float(row[6]) > 60 and int(row[4]) - int(row[3]) > 70][:12]
    num_found = 0
    for name, _, top, left, right, bottom, *_ in good:
        wanted = Box(left=int(left), top=int(top), right=int(right), bottom=int(bottom))
        found = find_faces([PictureFile(str(shared_dir / "expw" / "origin" / name))])
        num_found += any(isinstance(one, PictureFile) and overlap(one.box, wanted) > 0.3 for one in found)
    assert num_found >= 6, "of twelve large faces of which ExpW's own detector was sure"


def overlap(one: Box | None, other: Box) -> float:
    """Intersection over union."""
    assert one is not None
    width = min(one.right, other.right) - max(one.left, other.left)
    height = min(one.bottom, other.bottom) - max(one.top, other.top)
    inside = max(0, width) * max(0, height)
    return inside / (one.side_px**2 + other.side_px**2 - inside)


def test_a_picture_without_a_face_and_one_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    pytest.importorskip("skimage")
    cv2.imwrite(str(tmp_path / "flat.png"), np.full((60, 60, 3), 128, np.uint8))
    boxed = PictureFile("boxed.png", Box(left=0, top=0, right=9, bottom=9))
    found = list(find_faces([PictureFile(str(tmp_path / "flat.png")), PictureFile("none.png"), boxed]))
    assert found[2] is boxed
    reasons = [one.reason for one in found[:2] if isinstance(one, Unreadable)]
    assert reasons[0] == "no face was found in it"
    assert "none.png" in reasons[1]


def test_a_table_is_read_as_prepare_reads_it_with_spaces_around_cells(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("path, left, top, right, bottom\n a.png , 1, 2, 30, 40\nb.png , , , ,\n")

    assert listed(str(tmp_path / "a.csv")) == [
        PictureFile(str(tmp_path / "a.png"), Box(left=1, top=2, right=30, bottom=40)),
        PictureFile(str(tmp_path / "b.png")),
    ]
