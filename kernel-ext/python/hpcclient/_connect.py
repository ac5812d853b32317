"""Logging in to a cluster: the bridge's questions go to the user, the answers back.

Called by `_follow` when a cluster turns out not to be connected, and by `_rpc.connect`.
Invariants: a secret is asked for without echo and never kept.
"""

from __future__ import annotations

import contextlib
import getpass
import json
from typing import Any
from urllib.parse import quote

from . import _http
from ._errors import NotFound, Unavailable, from_wire
from ._show import Status

_LOGIN_SECONDS = 180.0


def in_url(cluster: str) -> str:
    """Returns a cluster's name as one segment of a path."""
    return quote(cluster, safe="")


def connect(cluster: str) -> dict[str, Any]:
    """Connects, asking the user what the login node asks; returns its `ClusterStatus`."""
    status, rest = Status(), b""
    path = f"/v1/clusters/{in_url(cluster)}/connect"
    answer = None
    try:
        answer = _http.request("POST", path, timeout=_LOGIN_SECONDS)
        while True:
            data = answer.read_some()
            if not data:
                raise ConnectionError("the bridge ended while it was connecting")
            *lines, rest = (rest + data).split(b"\n")
            for event in (json.loads(line) for line in lines if line.strip()):
                if event["type"] == "progress":
                    status.say(f"{cluster}: {event['message']}")
                elif event["type"] == "prompt":
                    status.clear()
                    _ask(event)
                elif event["type"] == "failed":
                    raise from_wire(event["error"])
                elif event["type"] == "connected":
                    cluster_status: dict[str, Any] = event["cluster"]
                    return cluster_status
    except _http.BROKEN as error:
        raise Unavailable("the bridge ended the login", causes=[repr(error)]) from error
    finally:
        status.clear()
        if answer:
            answer.close()


def _ask(prompt: dict[str, Any]) -> None:
    """Asks one question. Where nobody can be asked the answer is none, and the login fails."""
    typed: str | None = None
    try:
        text = prompt["text"].rstrip() + " "
        typed = input(text) if prompt["echo"] else getpass.getpass(text)
    except (EOFError, NotImplementedError):
        pass
    finally:
        path = f"/v1/prompts/{quote(prompt['id'], safe='')}"
        # If the login gave up waiting, its last line says so.
        with contextlib.suppress(NotFound):
            _http.get_json("POST", path, {"answer": typed})
