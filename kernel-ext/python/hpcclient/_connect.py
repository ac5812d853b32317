"""Logging in to a cluster: the bridge's questions go to the user, the answers back.

Called by `_follow` when a cluster turns out not to be connected, and by `_rpc`.
Invariants: a secret is asked for without echo and never kept.
"""

from __future__ import annotations

import contextlib
import getpass
import json
import os
from typing import Any
from urllib.parse import quote

from . import _http
from ._errors import NotFound, Unavailable, from_wire
from ._show import Status, note

_LOGIN_SECONDS = 180.0
_RENEW_SECONDS = 330.0  # The bridge ends the command after 300.


def in_url(cluster: str) -> str:
    """Returns a cluster's name as one segment of a path."""
    return quote(cluster, safe="")


def connect(cluster: str, quietly: bool = False) -> dict[str, Any]:
    """Connects, asking the user what the login node asks; returns its `ClusterStatus`.

    `quietly` shows nothing and answers no question.
    """
    return _log_in(cluster, "connect", _LOGIN_SECONDS, quietly)


def renew(cluster: str) -> dict[str, Any]:
    """Runs the cluster's `renew_command`, showing what it says, and connects."""
    return _log_in(cluster, "renew", _RENEW_SECONDS)


def status(cluster: str, timeout: float = _http.SILENCE) -> dict[str, Any]:
    """Returns the cluster's `ClusterStatus`, or a disconnected one."""
    bridge = _http.get_json("GET", "/v1/bridge", timeout=timeout)
    default = bridge.get("defaultCluster") if cluster == "default" else None
    known = [each for each in bridge["clusters"] if each["name"] == (default or cluster)]
    return known[0] if known else {"name": default or cluster, "state": "disconnected"}


def _log_in(cluster: str, verb: str, patience: float, quietly: bool = False) -> dict[str, Any]:
    status, rest = Status(), b""
    path = f"/v1/clusters/{in_url(cluster)}/{verb}"
    answer = None
    try:
        answer = _http.request("POST", path, _environment(), timeout=patience)
        while True:
            data = answer.read_some()
            if not data:
                raise ConnectionError("the bridge ended while it was connecting")
            *lines, rest = (rest + data).split(b"\n")
            for event in (json.loads(line) for line in lines if line.strip()):
                if event["type"] == "progress":
                    if verb == "renew":  # It may be an address to open.
                        note(event["message"])
                    elif not quietly:
                        status.say(f"{cluster}: {event['message']}")
                elif event["type"] == "prompt":
                    status.clear()
                    _answer(event, None if quietly else _typed(event))
                elif event["type"] == "failed":
                    raise from_wire(event["error"])
                elif event["type"] == "connected":
                    cluster_status: dict[str, Any] = event["cluster"]
                    status.clear()
                    for notice in () if quietly else cluster_status.get("notices", []):
                        note(f"{cluster}: {notice}")
                    return cluster_status
    except _http.BROKEN as error:
        raise Unavailable("the bridge ended the login", causes=[repr(error)]) from error
    finally:
        status.clear()
        if answer:
            answer.close()


def _environment() -> dict[str, str]:
    """Returns what the bridge, which may be older than this session, is to know of it."""
    socket = os.environ.get("SSH_AUTH_SOCK", "")
    return {"sshAuthSock": socket} if os.path.isabs(socket) else {}


def _typed(prompt: dict[str, Any]) -> str | None:
    """Asks one question. Where nobody can be asked the answer is none, and the login fails."""
    text = prompt["text"].rstrip() + " "
    try:
        return input(text) if prompt["echo"] else getpass.getpass(text)
    except (EOFError, NotImplementedError):
        return None
    except BaseException:  # ■ ends the wait here; the login must not wait on for its answer.
        _answer(prompt, None)
        raise


def _answer(prompt: dict[str, Any], answer: str | None) -> None:
    # If the login gave up waiting, its last line says so.
    with contextlib.suppress(NotFound):
        path = f"/v1/prompts/{quote(prompt['id'], safe='')}"
        _http.get_json("POST", path, {"answer": answer})
