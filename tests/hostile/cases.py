"""What a case of hostile input is, and what must hold of each: an answer or a `FerrayError`, no file opened outside.

Begin at `Parser`. The parsers are in `hostile.data` and `hostile.runs`; `faults/test_hostile_files.py` and
`faults/fuzz.py` call them.
"""

import os
import site
import sys
import sysconfig
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hostile.edits import Edits, edit_text

from ferray.errors import FerrayError

MOST_SECONDS = 20.0
"""Of the processor's time, for one case: far beyond any of them, far below a hang."""

REPOSITORY = Path(__file__).resolve().parents[2]
_CODE = tuple(
    {
        os.path.realpath(path) + "/"
        for path in (
            sys.prefix, sys.base_prefix, sysconfig.get_path("stdlib"), *site.getsitepackages(), REPOSITORY / "ferray",
            REPOSITORY / "tests", REPOSITORY / "search_spaces", "/proc", "/sys/devices",
        )
    }
)  # fmt: skip
"""Where code is read from: modules are loaded when they are first needed."""

_watched: list[str] = []
"""The folders that all files must be opened in at this moment; empty for no watch."""
_outside: list[str] = []


class BrokenPromiseError(Exception):
    """What a hostile file made ferray do."""


@dataclass(frozen=True, kw_only=True)
class Parser:
    """One thing of ferray's that reads files of others."""

    name: str
    seeds: tuple[bytes, ...]
    """Valid files."""
    file: Path
    """Where it is read."""
    read: Callable[[], None]
    """Reads it through ferray and checks what came out; may raise a `FerrayError`."""
    folder: Path
    """All files of a case lie here."""
    write: Callable[[bytes], object] | None = None
    """Puts the bytes of a case in their place, where that is more than to write the file."""
    edit: Callable[..., bytes] = edit_text

    def one_case(self, data: bytes) -> bool:
        """Read one file.

        Returns:
            Whether it was accepted.

        Raises:
            BrokenPromiseError: Another error than a `FerrayError`, a file outside the folder, or too long a time.
        """
        (self.write or self.file.write_bytes)(data)
        begin = time.process_time()
        accepted = True
        try:
            with only_inside(self.folder), warnings.catch_warnings():
                warnings.simplefilter("error")
                self.read()
        except FerrayError as error:
            accepted = False
            if not all(str(part).strip() for part in error.args) or len(error.args) != 3:
                raise BrokenPromiseError(f"{self.name}: an error without place, fault or way out: {error!r}") from error
            if len(str(error)) > 20_000:
                raise BrokenPromiseError(f"{self.name}: an error of {len(str(error)):,} characters") from error
        except BrokenPromiseError:
            raise
        except Exception as error:
            raise BrokenPromiseError(f"{self.name}: {type(error).__name__}: {str(error)[:300]}") from error
        if time.process_time() - begin > MOST_SECONDS:
            raise BrokenPromiseError(f"{self.name}: {time.process_time() - begin:.0f} s for {len(data):,} bytes")
        return accepted

    def file_of(self, place: float, edits: Edits) -> bytes:
        """A valid file with some edits.

        Args:
            place: Chooses the file, in [0, 1).
            edits: What is changed.
        """
        at = int(place * len(self.seeds))
        return self.edit(self.seeds[at], edits, other=self.seeds[at - 1])


@contextmanager
def only_inside(folder: Path) -> Iterator[None]:
    """Every file that Python opens while the block runs lies in a folder or in ferray's cache, or is code.

    Raises:
        BrokenPromiseError: One does not.
    """
    allowed = (folder, os.environ.get("FERRAY_CACHE", folder), os.devnull)
    _watched[:] = [os.path.realpath(path) + "/" for path in allowed]
    _outside.clear()
    try:
        yield
    finally:
        _watched.clear()
        opened = list(_outside)
    if opened:
        raise BrokenPromiseError(f"opened outside {folder}: {opened[:5]}")


def _watch(event: str, arguments: tuple[object, ...]) -> None:
    """Note what is opened outside; an audit hook cannot be taken away again."""
    if not _watched or event not in ("open", "os.listdir", "os.scandir", "os.mkdir"):
        return
    path = arguments[0]
    if isinstance(path, str | bytes | os.PathLike):
        try:
            real = os.path.realpath(os.fsdecode(path)) + "/"
        except ValueError:  # a name with a NUL, which the system refuses
            return
        if not real.startswith((*_watched, *_CODE)):
            _outside.append(real)


sys.addaudithook(_watch)
