"""`report.html`: the page of one search, in one file that opens from the disk, without network and server.

A comparison of searches has a page of the same kind.

The page's own policy forbids every connection, and every script but the two that it comes with; what data says is
escaped in HTML, and is data, never code, in scripts.

Begin at `write_page`.
"""

import base64
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ferray.errors import FerrayError
from ferray.files import storage
from ferray.records.run import Run
from ferray.records.trial import TrialRecord
from ferray.report.page.library import plot_library
from ferray.report.results.compared.comparison import SearchComparison
from ferray.report.results.read import read_results

PAGE_FILE = "report.html"

_FOLDER = Path(__file__).resolve().parent / "assets"


@dataclass(frozen=True, kw_only=True)
class WrittenPage:
    """A page on the disk."""

    file: Path
    num_bytes: int


def write_page(
    run: Run,
    *,
    out: Path | None = None,
    pictures: bool = False,
    records: Sequence[TrialRecord] | None = None,
) -> WrittenPage:
    """Write the page of a search, finished or not.

    Args:
        run: The search's folder.
        out: The file; None for `report.html` in the search's folder.
        pictures: Whether the page has pictures of the data: mistakes, and copies with different labels.
        records: All trials, where the caller has them already.

    Raises:
        RecordError: There is no search here, or `search.json` is none.
        StorageError: A file cannot be read or written.
        SpaceError: `space.yaml` is no space.
    """
    run.check_exists()
    file = run.folder / PAGE_FILE if out is None else out
    data = _make_page(run, out=file, pictures=pictures, records=records)
    storage.write_bytes(file, data)
    return WrittenPage(file=file, num_bytes=len(data))


def render_watched_page(run: Run, *, version: str) -> bytes:
    """The page of a search for a server: it asks for the version of the folder, and reloads itself when that changes.

    Args:
        run: The search's folder.
        version: Of the folder, as the server answers it.

    Raises:
        FerrayError: As `write_page`.
    """
    run.check_exists()
    return _make_page(run, out=run.folder / PAGE_FILE, version=version)


def _make_page(
    run: Run,
    *,
    out: Path,
    pictures: bool = False,
    records: Sequence[TrialRecord] | None = None,
    version: str = "",
) -> bytes:
    from ferray.report.page.content import make_content

    content = make_content(read_results(run, records=records), out=out, pictures=pictures)
    return _render("page.html", content, version=version).encode()


def write_comparison(comparison: SearchComparison, file: Path) -> WrittenPage:
    """Write the page of a comparison of searches.

    Args:
        comparison: What it says.
        file: Where.

    Raises:
        StorageError: The file cannot be written.
    """
    from ferray.report.page.compared import make_compared_content

    data = _render("compared.html", make_compared_content(comparison)).encode()
    storage.write_bytes(file, data)
    return WrittenPage(file=file, num_bytes=len(data))


def _render(template: str, content: object, *, version: str = "") -> str:
    """A page; with a version, one that asks its server for another."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["as_data"] = _as_data
    scripts = [plot_library(), (_FOLDER / "page.js").read_text()]
    scripts += [(_FOLDER / "watch.js").read_text()] if version else []
    return environment.get_template(template).render(
        content=content,
        version=version,
        policy=_policy(*scripts, connections="'self'" if version else "'none'"),
        style=_Plain((_FOLDER / "page.css").read_text()),
        scripts=[_Plain(script) for script in scripts],
    )


def _policy(*scripts: str, connections: str) -> str:
    """A content security policy that lets these scripts run and nothing else, and forbids other connections."""
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; base-uri 'none';"
        f" connect-src {connections};"
        " form-action 'none'"
    )


class _Plain(str):
    """Text of ferray's own that a template writes as it is."""

    def __html__(self) -> str:
        return self


def _as_data(value: Any) -> _Plain:
    """JSON within `<script type="application/json">`, in which no text of the data can end the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return _Plain(text)


def page_warning(error: Exception) -> str:
    """Why a page was not written, in one line."""
    what = f"{error.args[0]}: {error.args[1]}" if isinstance(error, FerrayError) else repr(error)
    return f"{PAGE_FILE} was not written: {what}"
