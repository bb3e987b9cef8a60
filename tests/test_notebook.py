"""Promises of `docs/notebook.ipynb`: it runs, it is kept without outputs, and a search in it shows a table."""

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).resolve().parent.parent / "docs" / "notebook.ipynb"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> nbformat.NotebookNode:
    """The notebook after it was run, as a person's kernel runs it."""
    folder = tmp_path_factory.mktemp("notebook")
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="ferray-") as temporary:
        patch.setenv("FERRAY_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.setenv("NO_ALBUMENTATIONS_UPDATE", "1")
        patch.setenv("TMPDIR", temporary)  # short: Ray makes sockets in it
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "runtime"))
        for name in [name for name in os.environ if name.startswith(("RAY_", "WANDB_"))]:
            patch.delenv(name)
        read = nbformat.read(NOTEBOOK, as_version=4)
        where = {"metadata": {"path": str(folder)}}
        with on_one_core():  # fewer processes of Ray's
            NotebookClient(read, timeout=280, kernel_name="python3", resources=where).execute()
    return read


@contextmanager
def on_one_core() -> Iterator[None]:
    """What is started in the block sees one core of the machine."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def texts(notebook: nbformat.NotebookNode, source: str) -> list[str]:
    """What the one cell with a text shows: streams, and outputs as plain text."""
    (cell,) = [cell for cell in notebook.cells if cell.cell_type == "code" and source in cell.source]
    return [one.text if one.output_type == "stream" else one.data["text/plain"] for one in cell.outputs]


def test_the_notebook_is_kept_without_outputs() -> None:
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def test_the_notebook_searches_and_ends_with_predictions_and_an_exported_model(notebook: nbformat.NotebookNode) -> None:
    assert "search digits: finished, 4 trials" in texts(notebook, "ferray.search(")[-1]
    predicted = texts(notebook, "model.predict")[-1]
    assert predicted.count("'digit ") == 4
    assert int(texts(notebook, "export_model(")[-1]) > 50


def test_a_search_in_a_notebook_shows_one_table_and_no_codes_of_a_terminal(notebook: nbformat.NotebookNode) -> None:
    shown = texts(notebook, "ferray.search(")
    tables = [text for text in shown if "4/4 trials" in text]

    assert len(tables) == 1, "the same output, again and again"
    assert len(re.findall(r"^ +\d  done .* 6/6 ", tables[0], re.MULTILINE)) == 4, tables[0]
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            assert "\x1b[" not in str(output)
