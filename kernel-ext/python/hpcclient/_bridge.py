"""The local bridge: finds the `hpcclient` program, starts the bridge, knows its address.

Called by `_http`, which forgets the address when nobody answers there.
Invariants: one bridge is looked for at a time; the token is never printed.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from ._errors import BridgeFailed

_START_SECONDS = 30


class Address(NamedTuple):
    """Where the bridge listens, and the token it wants."""

    host: str
    port: int
    token: str


_lock = threading.Lock()
_known: Address | None = None


def address() -> Address:
    """Returns the bridge's address; starts the bridge if none is known."""
    global _known
    with _lock:
        if _known is None:
            _known = _ensure()
        return _known


def forget(stale: Address) -> None:
    """Says that nobody answers there, so that the next call looks again."""
    global _known
    with _lock:
        if _known == stale:
            _known = None


def find_binary() -> str:
    """Returns the path of `hpcclient`: `HPCCLIENT_BIN`, this environment's, then `PATH`'s."""
    named = os.environ.get("HPCCLIENT_BIN")
    if named:
        if os.access(named, os.X_OK):
            return named
        raise BridgeFailed(f"HPCCLIENT_BIN is {named}, and no program is there")
    name = "hpcclient.exe" if os.name == "nt" else "hpcclient"
    folders = [sysconfig.get_path("scripts"), os.path.join(sys.prefix, "bin")]
    user = "nt_user" if os.name == "nt" else "posix_user"
    folders += [sysconfig.get_path("scripts", user), str(Path(__file__).parent / "bin")]
    places = list(dict.fromkeys(os.path.join(folder, name) for folder in folders))
    for place in places:
        if os.access(place, os.X_OK):
            return place
    found = shutil.which(name)
    if found:
        return found
    raise BridgeFailed(
        "the program hpcclient was not found",
        ["install it with `pip install hpcclient`, or set HPCCLIENT_BIN to its path"],
        [f"looked at {place}" for place in [*places, "every folder of PATH"]],
    )


def _ensure() -> Address:
    binary = find_binary()
    try:
        # A session of its own: Ctrl-C in a terminal must not reach the bridge.
        done = subprocess.run(
            [binary, "bridge", "--ensure"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_START_SECONDS,
            start_new_session=True,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BridgeFailed(f"{binary} could not be started", causes=[str(error)]) from error
    try:
        told = json.loads(done.stdout)
        url = urlsplit(told["url"])
        return Address(url.hostname or "127.0.0.1", int(url.port or 80), told["token"])
    except (ValueError, KeyError, TypeError) as error:
        said = done.stderr.decode("utf-8", "replace").strip() or "it said nothing"
        failed = f"{binary} bridge --ensure ended with {done.returncode}"
        raise BridgeFailed(failed, causes=said.splitlines()) from error
