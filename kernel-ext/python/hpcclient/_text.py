"""Text that is taken piece by piece: by line, up to a match, all of it.

Used by `_reader` and `_aio`. Invariants: what one call took the next does not see; what was not
taken stays; a character is never cut in two, and bytes that are not UTF-8 become surrogates.
"""

from __future__ import annotations

import codecs
import re
from re import Pattern
from typing import Any, Union

from ._errors import HpcError, HpcTimeout, RunEnded
from ._wire import STREAMS

Sought = Union[str, "Pattern[str]"]

_MOST = 16 << 20


class TextBuffer:
    """The output of a run as one text, in the order in which it was written."""

    def __init__(self) -> None:
        decoder: Any = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder("surrogateescape") for stream in STREAMS}
        self._text, self._at = "", 0
        self._sought: Sought | None = None
        self._searched = 0
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
        self._text = self._text[self._at :] + text
        self._searched -= self._at
        self._at = 0

    def peek(self) -> str:
        """Returns all there is, and leaves it."""
        return self._text[self._at :]

    def take(self) -> str:
        """Returns all there is."""
        text = self.peek()
        self._text, self._at, self._searched = "", 0, 0
        return text

    def put_back(self, text: str) -> None:
        """Makes this what comes next."""
        self._text, self._at, self._searched = text + self.peek(), 0, 0

    def line(self) -> str | None:
        """Returns the next line with its end (the last one as it is); `None`: there is none yet."""
        end = self._text.find("\n", max(self._at, self._searched)) + 1
        if end:
            return self._take_to(end)
        self._searched = len(self._text)
        return self.take() if self.over else None

    def match(self, sought: Sought) -> str | None:
        """Returns the text up to and with the first match; `None` if there is none yet."""
        if not isinstance(sought, (str, re.Pattern)):
            raise TypeError("what is expected is a str, or a pattern of re.compile")
        if isinstance(sought, str):
            start = self._at
            if sought == self._sought:  # What is before was looked through.
                start = max(start, self._searched - len(sought) + 1)
            found = self._text.find(sought, start)
            end = found + len(sought) if found >= 0 else -1
        else:
            hit = sought.search(self._text, self._at)
            end = hit.end() if hit else -1
        if end >= 0:
            return self._take_to(end)
        self._sought, self._searched = sought, len(self._text)
        if len(self._text) - self._at > _MOST:
            raise HpcError(f"{_show(sought)} is not in the next {_MOST >> 20} MiB of output")
        return None

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
        text = self._text[self._at : end]
        self._at, self._sought, self._searched = end, None, 0
        return text

    def _last(self) -> str:
        text = self.peek()
        cut = "…" if len(text) > 200 else ""
        return f"what came ends with {cut}{text[-200:]!r}" if text else "nothing came"


def _show(sought: Sought) -> str:
    return repr(sought if isinstance(sought, str) else sought.pattern)
