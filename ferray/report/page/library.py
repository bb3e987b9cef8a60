"""The plotting library that the page carries: Vega, Vega-Lite and Vega-Embed as one script.

vl-convert brings them and bundles them for the browser; that takes a second or two, so the script is kept in the cache.
Users may share a cache, and who opens a page runs the script: a kept one is used only if this user alone can have
written it.

Begin at `plot_library`.
"""

import hashlib
import importlib.metadata
import os
import stat
from contextlib import suppress
from pathlib import Path

from ferray.errors import StorageError
from ferray.files import storage

_MAX_BYTES = 16 * 2**20


def plot_library() -> str:
    """The script; it defines `vegaEmbed`."""
    version = importlib.metadata.version("vl-convert-python")
    file = storage.cache_dir() / "page" / f"vega-{version}-{os.getuid()}.js"
    if (kept := _read_own(file)) is not None:
        return kept
    import vl_convert

    text: str = vl_convert.javascript_bundle().replace("</script", "<\\/script").replace("<!--", "<\\!--")  # type: ignore[call-arg]  # its stub lacks a default
    with suppress(StorageError, OSError):  # a cache that cannot be written costs the next page a second
        data = text.encode()
        storage.write_bytes(file, hashlib.sha256(data).hexdigest().encode() + b"\n" + data)
    return text


def _read_own(file: Path) -> str | None:
    """A script that was kept, if nobody else can have written it and no byte of it has changed."""
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)  # a pipe must not block
        with os.fdopen(descriptor, "rb") as opened:
            status = os.fstat(opened.fileno())
            is_own = status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
            if not stat.S_ISREG(status.st_mode) or not is_own or status.st_size > _MAX_BYTES:
                return None
            digest, _, data = opened.read().partition(b"\n")
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest().encode() != digest:
        return None
    return data.decode()
