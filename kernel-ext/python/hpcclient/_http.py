"""HTTP to the bridge: kept connections, one send per request, answers read as they come.

Called by `_follow`, `_run`, `_rpc` and `_view`. Every request may be sent twice (the API is
idempotent), so one that fails on a kept connection is sent again on a new one.
Invariants: a connection belongs to one thread; one with an unread answer is not used again.
Not here: what to do about a connection that stays broken; that is `_follow`.
"""

from __future__ import annotations

import json
import os
import socket
import threading
from http.client import HTTPException, HTTPResponse
from typing import Any

from . import _bridge
from ._errors import Unavailable, from_wire

SILENCE = 45.0
"""Seconds without a byte after which a stream is dead: the agent pings every 15."""

BROKEN = (OSError, HTTPException)
"""What a broken connection raises."""

_kept = threading.local()


def _forget_kept() -> None:
    _kept.__dict__.clear()


if hasattr(os, "register_at_fork"):  # A child must not write into its parent's connection.
    os.register_at_fork(after_in_child=_forget_kept)


class Answer:
    """A response with its connection; kept for the next request once it has been read."""

    def __init__(self, sock: socket.socket, address: _bridge.Address, request: bytes) -> None:
        self._sock, self.address = sock, address
        try:
            sock.sendall(request)
            self._http = HTTPResponse(sock, method=request.split(b" ", 1)[0].decode())
            self._http.begin()
        except BaseException:
            sock.close()
            raise
        self.status = self._http.status

    def read_some(self) -> bytes:
        """Returns the next bytes as they come; nothing at the end of the body."""
        if self._http.chunked:
            return self._http.read1(1 << 20)
        return self._http.read(1 << 16)

    def read(self) -> bytes:
        """Returns the whole body and keeps the connection."""
        body = self._http.read()
        self.keep()
        return body

    def set_timeout(self, seconds: float) -> None:
        """Sets how long one wait may take."""
        self._sock.settimeout(seconds)

    def keep(self) -> None:
        """Gives the connection to the next request; what is left of the body is read then."""
        if not self._http.will_close:
            _kept.answer = self

    def take_socket(self) -> socket.socket | None:
        """Returns the socket if the body really is at its end."""
        try:
            self.set_timeout(0.5)
            if not self.read_some():
                return self._sock
        except BROKEN:
            pass
        self.close()
        return None

    def close(self) -> None:
        """Ends the connection."""
        self._http.close()
        self._sock.close()


def request(method: str, path: str, body: Any = None, timeout: float = SILENCE) -> Answer:
    """Sends a request (`bytes` as they are, else JSON) and returns its answer.

    Starts the bridge where nobody answers. Raises an `ApiError` as its exception, and `BROKEN`.
    """
    payload = b"" if body is None else body
    if not isinstance(payload, bytes):
        payload = json.dumps(body).encode()
    for _ in range(2):
        answer = _send(method, path, payload, timeout)
        if answer.status < 400:
            return answer
        text = answer.read()
        if answer.status != 401:
            break
        _bridge.forget(answer.address)  # A new bridge on an old port has another token.
    try:
        error = json.loads(text)
    except ValueError:
        error = None
    raise from_wire(error, answer.status)


def get_json(method: str, path: str, body: Any = None, timeout: float = SILENCE) -> Any:
    """Sends a request and returns its answer's JSON, or nothing where it has no body."""
    try:
        text = request(method, path, body, timeout).read()
        return json.loads(text) if text else None
    except BROKEN as error:
        raise Unavailable("the bridge does not answer", causes=[repr(error)]) from error


def _send(method: str, path: str, payload: bytes, timeout: float) -> Answer:
    kept: Answer | None = _kept.__dict__.pop("answer", None)
    sock = kept.take_socket() if kept else None
    if kept and sock:
        try:
            sock.settimeout(timeout)
            return Answer(sock, kept.address, head(kept.address, method, path, payload))
        except socket.timeout:
            raise
        except BROKEN:
            pass
    address = _bridge.address()
    try:
        sock = _connect(address)
    except OSError:
        _bridge.forget(address)
        address = _bridge.address()
        sock = _connect(address)
    sock.settimeout(timeout)
    return Answer(sock, address, head(address, method, path, payload))


def _connect(address: _bridge.Address) -> socket.socket:
    sock = socket.create_connection(address[:2], timeout=5)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


def head(address: _bridge.Address, method: str, path: str, payload: bytes) -> bytes:
    """Returns a request as it goes out."""
    host = f"{address.host}:{address.port}"
    text = (
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nOrigin: http://{host}\r\n"
        f"Authorization: Bearer {address.token}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(payload)}\r\n\r\n"
    )
    return text.encode("ascii") + payload
