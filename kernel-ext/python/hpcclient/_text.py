"""Text that is taken piece by piece: by line, up to a match, all of it.

Used by `_reader` and `_aio`. Invariants: what one call took the next does not see; what was not
taken stays; a character is never cut in two, and bytes that are not UTF-8 become surrogates; the
work grows with the text, not with the pieces in which it comes.
"""

from __future__ import annotations

import codecs
import io
import re
from re import Pattern
from typing import Any, Union

from ._errors import HpcError, HpcTimeout, RunEnded
from ._wire import STREAMS

Sought = Union[str, "Pattern[str]"]

_MOST = 16 << 20
_BLOCK = 1 << 16


class TextBuffer:
    """The output of a run as one text, in the order in which it was written."""

    def __init__(self) -> None:
        decoder: Any = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder("surrogateescape") for stream in STREAMS}
        self._store, self._at, self._size = io.StringIO(), 0, 0
        self._joined: str | None = None  # What is in the store, for patterns.
        self._lined = 0  # Before this no line ends.
        self._sought: Sought | None = None
        self._searched = 0  # Before this what is sought does not begin.
        self.over = False

    def feed(self, stream: int, data: bytes) -> None:
        """Adds a stream's next bytes."""
        self._add(self._decoders[stream].decode(data))

    def end(self) -> None:
        """Says that nothing more comes."""
        if not self.over:
            self.over = True
            rests = [decoder.decode(b"", final=True) for decoder in self._decoders.values()]
            self._add("".join(rests))

    def _add(self, text: str) -> None:
        if self._at > self._size - self._at:  # What was taken is more than what is kept.
            taken, rest = self._at, self.peek()
            self._store, self._size, self._at = io.StringIO(rest), len(rest), 0
            self._lined, self._searched = self._lined - taken, self._searched - taken
        self._store.seek(0, io.SEEK_END)
        self._store.write(text)
        self._size += len(text)
        self._joined = None

    def peek(self) -> str:
        """Returns all there is, and leaves it."""
        return self._read(self._at)

    def take(self) -> str:
        """Returns all there is."""
        text = self.peek()
        self._reset("")
        return text

    def put_back(self, text: str) -> None:
        """Makes this what comes next."""
        self._reset(text + self.peek())

    def line(self) -> str | None:
        """Returns the next line with its end (the last one as it is); `None`: there is none yet."""
        start = max(self._at, self._lined)
        self._store.seek(start)
        came = self._store.readline()
        if came.endswith("\n"):
            return self._take_to(start + len(came))
        self._lined = self._size
        if self.over:
            return self.take()
        self._limit("the end of a line")
        return None

    def match(self, sought: Sought) -> str | None:
        """Returns the text up to and with the first match; `None` if there is none yet."""
        if not isinstance(sought, (str, re.Pattern)):
            raise TypeError("what is expected is a str, or a pattern of re.compile")
        if isinstance(sought, str):
            end = self._find(sought)
        else:
            if self._joined is None:
                self._joined = self._read(0)
            hit = sought.search(self._joined, self._at)
            end = hit.end() if hit else -1
        if end >= 0:
            return self._take_to(end)
        self._limit(_show(sought))
        return None

    def _find(self, sought: str) -> int:
        """Returns where the first match ends; what was looked through is not looked at again."""
        start = max(self._at, self._searched) if sought == self._sought else self._at
        while True:
            block = self._read(start, _BLOCK + len(sought))
            found = block.find(sought)
            if found >= 0:
                return start + found + len(sought)
            start = max(start, start + len(block) - len(sought) + 1)
            if start + len(sought) > self._size:
                self._sought, self._searched = sought, start
                return -1

    def _read(self, start: int, most: int = -1) -> str:
        self._store.seek(start)
        return self._store.read(most)

    def _reset(self, text: str) -> None:
        self._store, self._size, self._at = io.StringIO(text), len(text), 0
        self._joined, self._sought, self._searched, self._lined = None, None, 0, 0

    def _limit(self, what: str) -> None:
        if self._size - self._at > _MOST:
            hint = "read_some() and read() take what came"
            raise HpcError(f"{what} is not in the next {_MOST >> 20} MiB of output", [hint])

    def late(self, sought: Sought, seconds: float | None) -> HpcTimeout:
        """Returns the error of what did not come in time."""
        error = HpcTimeout(f"{_show(sought)} did not come within {seconds} s; {self._last()}")
        error.text = self.peek()
        return error

    def ended(self, sought: Sought, how: str) -> RunEnded:
        """Returns the error of what did not come at all."""
        what = f"the run ended ({how}) before {_show(sought)} came; {self._last()}"
        error = RunEnded(what)
        error.text = self.peek()
        return error

    def _take_to(self, end: int) -> str:
        text = self._read(self._at, end - self._at)
        self._at = end
        return text

    def _last(self) -> str:
        text = self.peek()
        cut = "…" if len(text) > 200 else ""
        return f"what came ends with {cut}{text[-200:]!r}" if text else "nothing came"


def _show(sought: Sought) -> str:
    return repr(sought if isinstance(sought, str) else sought.pattern)
