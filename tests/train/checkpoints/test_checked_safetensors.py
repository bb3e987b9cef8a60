"""Any wrong bit and any cut of a checkpoint is found, and what is found names the file."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fixtures.train import SmallStore, same_tensors, small_backbone, small_recipe, small_weights
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, save, save_file

from ferray.errors import CheckpointError
from ferray.model.backbones import BACKBONES
from ferray.train.checkpoints.checked_safetensors import DamagedError, parse_checked, read_checked, write_checked
from ferray.train.checkpoints.export import export_best
from ferray.train.checkpoints.writer import Checkpointing
from ferray.train.fit import fit

NAMES = ("last.safetensors", "best.safetensors", "model.safetensors")


@pytest.fixture(scope="module", params=NAMES)
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a real file of each kind."""
    folder = tmp_path_factory.mktemp("run")
    store, recipe = SmallStore(), small_recipe(epochs=2, freeze="blocks1-4", hidden_units=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(BACKBONES, "vgg16", small_backbone())
        weights = small_weights()
        list(fit(recipe, store, weights, checkpointing=Checkpointing(folder)))
        export_best(folder, checkpoints=folder, recipe=recipe, store=store, weights=weights)
    return (folder / request.param).read_bytes()


def is_found(changed: bytes) -> bool:
    try:
        parse_checked(changed, where="runs/some/last.safetensors")
    except DamagedError as error:
        assert "runs/some/last.safetensors: damaged" in str(error)
        return True
    return False


def flip(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def test_every_wrong_bit_of_a_header_is_found(data: bytes) -> None:
    header = 8 + int.from_bytes(data[:8], "little")
    stride = 1 if header < 2000 else 5  # the longest takes 10 s otherwise

    assert [bit for bit in range(0, 8 * header, stride) if not is_found(flip(data, bit))] == []


def test_a_wrong_bit_anywhere_is_found(data: bytes) -> None:
    @given(st.integers(0, 8 * len(data) - 1))
    def check(bit: int) -> None:
        assert is_found(flip(data, bit))

    check()


def test_every_cut_is_found(data: bytes) -> None:
    assert [end for end in range(0, len(data), 7) if not is_found(data[:end])] == []
    assert is_found(data[:-1])
    assert is_found(data + b" ")


def test_bytes_that_changed_places_or_were_lost_are_found(data: bytes) -> None:
    @given(st.integers(1, len(data) - 1), st.integers(1, 64), st.booleans())
    def check(begin: int, length: int, zeroed: bool) -> None:
        end = min(begin + length, len(data))
        middle = bytes(end - begin) if zeroed else data[begin:end][::-1]
        changed = data[:begin] + middle + data[end:]
        assert changed == data or is_found(changed)

    check()


def test_what_was_written_is_read(data: bytes, tmp_path: Path) -> None:
    facts, tensors = parse_checked(data, where="some")
    write_checked(tmp_path / "again", tensors, facts)
    again, back = read_checked(tmp_path / "again")

    assert again == facts
    assert same_tensors(back, tensors)


def test_the_same_content_gives_the_same_bytes(data: bytes, tmp_path: Path) -> None:
    facts, tensors = parse_checked(data, where="some")
    for _ in range(10):  # safetensors takes the texts of its header in another order each time
        write_checked(tmp_path / "again", tensors, facts)
        assert (tmp_path / "again").read_bytes() == data


@pytest.mark.parametrize("some", [{}, {"none": torch.empty(0, 3)}, {"one": torch.tensor(2.5), "b": torch.ones(2, 3).T}])
def test_tensors_of_any_shape_can_be_written_and_read(some: dict[str, torch.Tensor], tmp_path: Path) -> None:
    write_checked(tmp_path / "file", some, {})

    assert same_tensors(read_checked(tmp_path / "file")[1], some)


def metadata_of(data: bytes) -> dict[str, str]:
    length = int.from_bytes(data[:8], "little")
    metadata: dict[str, str] = json.loads(data[8 : 8 + length])["__metadata__"]
    return metadata


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors: tensors.update(more=torch.ones(1)),
        lambda tensors: tensors.popitem(),
        lambda tensors: tensors.update({name: tensor.double() for name, tensor in tensors.items()}),
        lambda tensors: tensors.update({name: tensor.reshape(-1, 1) for name, tensor in tensors.items()}),
    ],
)
def test_the_checksum_covers_names_types_and_shapes(
    change: Callable[[dict[str, torch.Tensor]], None], data: bytes
) -> None:
    tensors = load(data)
    change(tensors)

    assert is_found(save(tensors, metadata=metadata_of(data)))


def test_the_checksum_covers_facts(data: bytes) -> None:
    metadata = metadata_of(data)
    metadata["ferray"] = metadata["ferray"].replace('"epoch": ', '"epoch": 1')

    assert is_found(save(load(data), metadata=metadata))


def test_a_file_without_a_checksum_is_refused_with_a_way_out(data: bytes, tmp_path: Path) -> None:
    file = tmp_path / "last.safetensors"
    save_file(load(data), file, metadata={"ferray": json.dumps({"format": 1, "trial_id": "abc"})})
    with pytest.raises(CheckpointError, match=r"format 1, which has no checksum\n.*or remove the file") as caught:
        read_checked(file)
    assert not isinstance(caught.value, DamagedError), "it is intact, so no earlier one is used instead"

    save_file(load(data), file, metadata={"ferray": metadata_of(data)["ferray"].partition(" ")[2]})
    with pytest.raises(DamagedError, match="its checksum does not match"):
        read_checked(file)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"x" * 5000,
        (2**63).to_bytes(8, "little") + b"{}",
        (200_000).to_bytes(8, "little") + b"[" * 200_000,
        save({"some": torch.ones(1)}),
        save({"some": torch.ones(1)}, metadata={"ferray": "5"}),
        save({"some": torch.ones(1)}, metadata={"ferray": "{}"}),
        save({"some": torch.ones(1)}, metadata={"ferray": '{"format": "new"}'}),
    ],
)
def test_what_is_no_checkpoint_is_named(content: bytes) -> None:
    assert is_found(content)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DamagedError, match=r"nothing\.safetensors: cannot be read"):
        read_checked(tmp_path / "nothing.safetensors")
