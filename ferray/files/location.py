"""Folders and files as a user names them: by a path, or by `file://`. Begin at `local_path`."""

import re
from urllib.parse import unquote, urlsplit

from ferray.errors import StorageError

SUPPORTED = "a folder that all nodes share, such as /shared/runs, or file:///shared/runs"


def local_path(text: str, *, option: str) -> str:
    """The path that a text names.

    Args:
        text: A path, or `file:///PATH`.
        option: The option that it was given for, for the error.

    Raises:
        StorageError: It names a bucket, another machine, or anything else that is no path of this machine.
    """
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]*)://", text)
    if scheme is None:
        return text
    if scheme[1].lower() != "file":
        what = f"{scheme[1]}:// is not supported; a path would be taken for a folder of that name"
        raise StorageError(f"{option} {text}", what, f"Give {SUPPORTED}")
    parts = urlsplit(text)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path:
        raise StorageError(f"{option} {text}", "does not name a path of this machine", f"Give {SUPPORTED}")
    return unquote(parts.path)
