"""The browser, and the run folders that the tests of the page share."""

from pathlib import Path

import pandas
import pytest
from fixtures.browser import browser  # noqa: F401  a fixture
from fixtures.data import write_tiny_store
from fixtures.run_folder import write_run
from fixtures.shared import set_environment

from ferray.data.store.reader import Store, open_store
from ferray.data.store.writer import Provenance, StoreWriter
from ferray.records.run import Run
from ferray.report.page.write import write_page

HOSTILE = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "</script><script>alert(3)</script>",
    "'\" onmouseover=alert(4) x='",
    "{{ 7 * 7 }}${alert(5)}",
    "javascript:alert(6)",
    "a&lt;b&amp;c <!-- --> ]]>",
)
"""Names of seven classes."""

REASON = "OSError: </script><script>alert(7)</script> <b>bold</b> \u2028 &amp; 100 %"


@pytest.fixture(scope="session")
def shown_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Enough test pictures for intervals."""
    return write_tiny_store(tmp_path_factory.mktemp("shown") / "store", per_class=(2, 10, 12))


@pytest.fixture(scope="session")
def ended_run(shown_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search of 60 trials of which some were stopped."""
    folder = tmp_path_factory.mktemp("runs") / "ended"
    return write_run(folder, shown_store, 60, states=("done", "stopped"))


@pytest.fixture(scope="session")
def ended_page(ended_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its page, in its folder."""
    with pytest.MonkeyPatch.context() as patch:
        set_environment(patch, tmp_path_factory)
        return write_page(ended_run).file


@pytest.fixture(scope="session")
def hostile_run(shown_store: Store, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search whose name, classes, reasons and data folder want to be code."""
    parent = tmp_path_factory.mktemp("hostile")
    store = rename_classes(shown_store, parent / "<b onclick=alert(8)>&'\"", HOSTILE)
    return write_run(
        parent / "<img src=x onerror=alert(9)> %41 ' \" &amp;", store, 9, states=("done", "failed"), reason=REASON
    )


def rename_classes(store: Store, folder: Path, names: tuple[str, ...]) -> Store:
    """The same pictures with other names of the classes."""
    with StoreWriter(folder, num_faces=len(store.labels), size_px=store.size_px) as writer:
        for row, face in enumerate(store.faces):
            writer.put(row, face)
        writer.finish(
            pandas.DataFrame(store.table), names, Provenance(dataset="csv", margin=0.0, source_fingerprint="x")
        )
    return open_store(folder)
