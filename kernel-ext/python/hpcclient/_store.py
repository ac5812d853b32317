"""What the node keeps of a run, asked for in parts: lines that match, a span of time, a file.

Called by `_run`. Invariant: a file that is written here is whole or not there.
"""

from __future__ import annotations

import os
from datetime import datetime, timezone
from typing import Any, NamedTuple, Union

from . import _http
from ._errors import Unavailable
from ._wire import from_wire, new_id

When = Union[datetime, int, float]


class Hit(NamedTuple):
    """A line that matches: its stream, number (from 1), offset in bytes, time and text."""

    stream: str
    line: int
    offset: int
    time: datetime
    text: str


class Hits(list[Hit]):
    """The lines that match, in their order; `cut` says which limit ended the search, if one did."""

    def __init__(self, found: dict[str, Any]) -> None:
        super().__init__(_hit(each) for each in found.get("hits", []))
        self.cut: str | None = found.get("cut")

    def __repr__(self) -> str:
        lines = [f"{hit.stream}:{hit.line}: {hit.text}" for hit in self]
        lines = [line if line.isprintable() else ascii(line)[1:-1] for line in lines]
        return "\n".join(lines + ([f"… {self.cut}"] if self.cut else [])) or "no line matches"


def _hit(wire: dict[str, Any]) -> Hit:
    when = datetime.fromtimestamp(wire["tMs"] / 1000, timezone.utc).astimezone()
    return Hit(wire["stream"], wire["line"], wire["offset"], when, from_wire(wire["text"]))


def to_ms(when: When | None) -> int | None:
    """Returns a moment in milliseconds since 1970; one without a zone is of this machine's."""
    if isinstance(when, datetime):
        return int(when.timestamp() * 1000)
    return None if when is None else int(when * 1000)


def body(path: str) -> bytes:
    """Returns an answer's bytes."""
    try:
        return _http.request("GET", path).read()
    except _http.BROKEN as error:
        raise Unavailable("the output did not come whole", causes=[repr(error)]) from error


def download(path: str, to: str | os.PathLike[str]) -> None:
    """Writes an answer to a file, which is there only when it is whole."""
    part = f"{os.fspath(to)}.{new_id()}.part"  # Another download of the same file has its own.
    try:
        answer = _http.request("GET", path)
        try:
            with open(part, "wb") as file:
                while data := answer.read_some():
                    file.write(data)
        except BaseException:
            answer.close()
            raise
        answer.keep()
        os.replace(part, to)
    except _http.BROKEN as error:
        if not isinstance(error, OSError) or error.filename is None:
            raise Unavailable("the output did not come whole", causes=[repr(error)]) from error
        raise
    finally:
        if os.path.exists(part):
            os.remove(part)
