"""Where W&B's runs go: to its server, to files, or nowhere; decided in at most 5 s, without asking the user.

Begin at `choose_mode`; `Destination` is the project.
"""

import configparser
import logging
import netrc
import os
import shlex
import threading
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ferray.errors import TrackingError

log = logging.getLogger(__name__)

Mode = Literal["online", "offline", "disabled"]

MODES = ("online", "offline", "disabled", "dryrun", "run", "shared")
"""Those that wandb 0.31 accepts; `dryrun` is its old name of `offline`, and the last two are online."""

DEFAULT_SERVER = "https://api.forge.coreweave.com"
"""The default of wandb 0.31; older key files name `api.wandb.ai`, whose keys it accepts too."""

OTHER_NAMES = ("api.wandb.ai",)

REACH_S = 5.0
"""Longest wait for the server's first answer."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """W&B's project and entity of all runs of a search, as the space names them."""

    project: str | None = None
    """None for `ferray`."""
    entity: str | None = None
    """A user or a team; None for the default of the key."""

    def settled(self) -> "Destination":
        """With the variables `WANDB_PROJECT` and `WANDB_ENTITY` in place of what the space names."""
        return Destination(
            project=os.environ.get("WANDB_PROJECT") or self.project or "ferray",
            entity=os.environ.get("WANDB_ENTITY") or self.entity,
        )


def choose_mode(asked: str | None, *, folder: Path | None = None) -> tuple[Mode, str]:
    """The mode of a search, and a sentence about it for the user, with a command on a second line where there is one.

    Mode `online` needs a key, in `WANDB_API_KEY` or the netrc file, and a server that answers. If one of them is
    missing, the runs go to files, even if `online` was asked for. Only the key's presence is checked.

    Args:
        asked: `online`, `offline` or `disabled`; None for the mode of `WANDB_MODE`, or else for `online` if possible.
        folder: The search's folder, for the command in the sentence.

    Raises:
        TrackingError: As `wanted_mode`.
    """
    wanted = wanted_mode(asked)
    if wanted == "disabled":
        return "disabled", "W&B: disabled"
    sync = f"send the runs later:\nwandb sync {shlex.quote(str(folder or 'runs/NAME'))}/wandb/offline-run-*"
    if wanted in ("offline", "dryrun"):
        return "offline", f"W&B: offline; {sync}"
    server = _server()
    if not has_key(server):
        missing = "no key"
    elif not _reachable(server):
        missing = f"no answer from {server}"
    else:
        return "online", f"W&B: online, {server}"
    if wanted == "online":
        log.warning("W&B: %s, so the runs go to files", missing)
    return "offline", f"W&B: offline, {missing}; {sync}"


def wanted_mode(asked: str | None) -> str:
    """The mode that a user wants; empty where none is named.

    Args:
        asked: As `choose_mode`.

    Raises:
        TrackingError: `WANDB_MODE` is none of W&B's: runs that should stay here might be sent.
    """
    named = os.environ.get("WANDB_MODE", "")
    if asked is None and named not in ("", *MODES):
        raise TrackingError(
            "WANDB_MODE", f"{named!r} is no mode", "Set it to online, offline or disabled, or not at all"
        )
    return asked or named


def has_key(server: str | None = None) -> bool:
    """Whether wandb would find a key for a server without asking for one."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    named = os.environ.get("NETRC")
    files = [Path(named)] if named else [Path("~/.netrc"), Path("~/_netrc")]
    host = urllib.parse.urlsplit(server or _server()).netloc
    for file in files:
        try:
            hosts = netrc.netrc(file.expanduser()).hosts
        except (OSError, ValueError, RuntimeError, netrc.NetrcParseError):
            continue
        if host in hosts or (host in DEFAULT_SERVER and any(name in hosts for name in OTHER_NAMES)):
            return True
    return False


def _server() -> str:
    """The server that wandb would use: that of the environment, of its settings file, or its default."""
    named = os.environ.get("WANDB_BASE_URL")
    if not named:
        folder = Path(os.environ.get("WANDB_CONFIG_DIR") or "~/.config/wandb")
        settings = configparser.ConfigParser(interpolation=None)
        try:
            settings.read(folder.expanduser() / "settings")
            named = settings.get("default", "base_url", fallback=None)
        except (configparser.Error, OSError, ValueError, RuntimeError):
            named = None
    return (named or DEFAULT_SERVER).rstrip("/")


def _reachable(server: str) -> bool:
    """Whether the server answers at all within `REACH_S`."""
    answered = threading.Event()

    def ask() -> None:
        try:
            with urllib.request.urlopen(f"{server}/graphql", timeout=REACH_S):
                answered.set()
        except urllib.error.HTTPError as error:  # a refusal is an answer
            error.close()
            answered.set()
        except (OSError, ValueError):
            pass
        finally:
            ended.set()

    ended = threading.Event()  # in a thread, since looking up a name can block far longer than the timeout
    threading.Thread(target=ask, name="wandb-reach", daemon=True).start()
    ended.wait(REACH_S)
    return answered.is_set()
