"""Nothing that runs code when it is read is used on a file: told by the imports and calls of every module."""

import ast
from pathlib import Path

MODULES = sorted((Path(__file__).resolve().parent.parent.parent / "ferray").rglob("*.py"))
BANNED_MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "jsonpickle"}
BANNED_CALLS = {
    "eval", "exec", "compile", "torch.jit.load", "torch.package", "pandas.read_pickle", "pandas.read_hdf", "yaml.load",
    "yaml.full_load", "yaml.unsafe_load", "yaml.load_all", "ray.cloudpickle", "tune.Tuner.restore", "Tuner.restore",
    "np.load", "numpy.load", "np.fromregex",
}  # fmt: skip
STATE_DICTS = "model/weights.py"
"""The one module that reads torch's own format, for the file that `--weights` names, and only as `weights_only`."""


def place(file: Path) -> str:
    return file.as_posix().rpartition("/ferray/")[2]


def test_no_module_reads_what_could_run_code() -> None:
    assert {place(file): found for file in MODULES if (found := dangers(file))} == {}


def dangers(file: Path) -> set[str]:
    """What a module imports, calls or allows that could run code."""
    nodes = list(ast.walk(ast.parse(file.read_text())))
    imported = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported |= {node.module.split(".")[0]}
    found = imported & BANNED_MODULES
    for call in (node for node in nodes if isinstance(node, ast.Call)):
        name = ast.unparse(call.func)
        if name in BANNED_CALLS or any(name.endswith(f".{banned}") for banned in BANNED_CALLS if "." in banned):
            found.add(name)
        if any(word.arg == "allow_pickle" and ast.unparse(word.value) != "False" for word in call.keywords):
            found.add("allow_pickle")
        if name == "torch.load" and not any(
            word.arg == "weights_only" and ast.unparse(word.value) == "True" for word in call.keywords
        ):
            found.add("torch.load without weights_only")
        if name == "torch.load" and place(file) != STATE_DICTS:
            found.add("torch.load")
    return found - ({"pickle"} if place(file) == STATE_DICTS else set())


def test_pickle_is_imported_by_one_module_and_only_for_the_name_of_an_error() -> None:
    text = next(file for file in MODULES if place(file) == STATE_DICTS).read_text()

    assert {word.split("(")[0] for word in text.replace(")", " ").replace(",", " ").split() if "pickle." in word} == {
        "pickle.UnpicklingError"
    }
