"""The page of a search for browsers of this machine, always as new as the search's folder.

Only 127.0.0.1 is listened on, and two addresses are answered: `/`, the page, and `/version`, which says whether there
is a newer one, and in a line how far the search is. No file is served. A name of another site that leads to this
machine (DNS rebinding) is refused by the `Host` that the browser sends with it.

Begin at `PageServer`.
"""

import hashlib
import html
import json
import logging
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from ferray.errors import FerrayError, StorageError
from ferray.records.run import Run
from ferray.report.page.write import render_watched_page
from ferray.report.watch.drawing import describe
from ferray.report.watch.folder import FolderWatcher, folder_state

log = logging.getLogger(__name__)

HOST = "127.0.0.1"

BUILD_S = 5.0
"""Pause between two pages, at least; to make one takes a second or two of a processor."""

READ_S = 1.0
"""The folder is read no more often, however many browsers ask."""

HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class PageServer(ThreadingHTTPServer):
    """Serves the page of a search.

    Args:
        run: The search's folder, which is only read.
        port: Where to listen; 0 for a port that is free.

    Raises:
        StorageError: The port is taken, or not allowed.
    """

    daemon_threads = True

    def __init__(self, run: Run, *, port: int = 0) -> None:
        self._run = run
        self._watcher = FolderWatcher(run)
        self._lock = threading.Lock()
        self._version = self._line = ""
        self._read_at = self._built_at = -BUILD_S
        self._page: bytes | None = None
        self._page_version = ""
        try:
            super().__init__((HOST, port), _Handler)
        except (OSError, OverflowError) as error:
            what = f"cannot be listened on: {getattr(error, 'strerror', None) or error}"
            raise StorageError(f"--port {port}", what, "Leave --port out for one that is free") from error

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_port}/"

    @property
    def hosts(self) -> frozenset[str]:
        """What a browser that was given this address sends as `Host`."""
        return frozenset(f"{name}:{self.server_port}" for name in (HOST, "localhost"))

    def version(self) -> tuple[str, str]:
        """The version of the page that there is to load, and how far the search is, in a line."""
        with self._lock:
            now = time.monotonic()
            if now - self._read_at >= READ_S:
                self._read_at = now
                self._line = describe(self._watcher.read())
                if self._page is None or now - self._built_at >= BUILD_S:
                    self._version = hashlib.sha256(folder_state(self._run).encode()).hexdigest()[:16]
            return self._version, self._line

    def page(self) -> bytes:
        """The page of that version, made if there is none yet.

        Raises:
            FerrayError: The folder cannot be read now, and was not read before.
        """
        version, _ = self.version()
        with self._lock:
            if self._page is None or version != self._page_version:
                try:
                    self._page = render_watched_page(self._run, version=version)
                    self._page_version = version
                except FerrayError:
                    if self._page is None:
                        raise
                self._built_at = time.monotonic()
            return self._page


class _Handler(BaseHTTPRequestHandler):
    """Answers one connection."""

    server: PageServer
    server_version = "ferray"
    sys_version = ""
    timeout = 30
    """Seconds that a connection may be silent."""

    def do_GET(self) -> None:
        """The page, or its version."""
        if self.headers.get("Host") not in self.server.hosts:
            self._answer(HTTPStatus.MISDIRECTED_REQUEST, "text/plain", f"Open {self.server.url}\n".encode())
            return
        path = self.path.partition("?")[0]
        try:
            if path == "/":
                self._answer(HTTPStatus.OK, "text/html", self.server.page())
            elif path == "/version":
                version, line = self.server.version()
                self._answer(HTTPStatus.OK, "application/json", json.dumps({"version": version, "line": line}).encode())
            else:
                text = "Only the page is served; files are in the folder of the search.\n"
                self._answer(HTTPStatus.NOT_FOUND, "text/plain", text.encode())
        except FerrayError as error:
            text = f"<!doctype html><title>not yet</title><p>{html.escape(f'{error.args[0]}: {error.args[1]}')}</p>"
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, "text/html", text.encode(), {"Refresh": "3"})

    do_HEAD = do_GET  # noqa: N815  the name that http.server looks for

    def log_message(self, format: str, *arguments: object) -> None:
        """Requests are logged for `FERRAY_LOG=debug` alone."""
        log.debug(format, *arguments)

    def _answer(self, status: HTTPStatus, kind: str, body: bytes, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        fields = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(body))}
        for name, value in {**HEADERS, **fields, **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
