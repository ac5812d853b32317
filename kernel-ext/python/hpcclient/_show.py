"""What the user sees while a command runs: its streams as they come, and short notices.

Called by `_follow` with bytes in the order in which the command wrote them.
Invariants: a character is never cut in two; a notebook gets at most 500 kB/s, and at a longer
flood its start, the count of what was left out, and what comes after. Nothing is lost by that:
the store has every byte. In plain Python there is no limit.
"""

from __future__ import annotations

import codecs
import html
import json
import sys
import time
import uuid
from typing import Any, TextIO

_BYTES_PER_SECOND = 500_000
_SWITCHES_PER_SECOND = 200
_NOT_WORTH_A_LINE = 0.3


def is_kernel(stream: object) -> bool:
    """Returns whether what is written there goes to a notebook's front end."""
    return type(stream).__module__ == "ipykernel.iostream"


class Bucket:
    """Lets `rate` units pass per second, and one second's worth at once."""

    def __init__(self, rate: float) -> None:
        self._rate, self._level, self._at = rate, rate, time.monotonic()

    def level(self) -> float:
        """Returns how much may pass now."""
        now = time.monotonic()
        self._level = min(self._rate, self._level + (now - self._at) * self._rate)
        self._at = now
        return self._level

    def take(self, amount: float) -> None:
        """Counts what passed or came; a flood does not dig deeper than one second."""
        self._level = max(-self._rate, self.level() - amount)


class Screen:
    """Shows one run's streams on this process' stdout and stderr."""

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder("replace") for stream in (1, 2, 3)}
        self._out: dict[int, TextIO] = {1: sys.stdout, 2: sys.stderr, 3: sys.stdout}
        self._limited: list[Any] = [each for each in (sys.stdout, sys.stderr) if is_kernel(each)]
        # ipykernel sends what was written every 200 ms; for the time of a run it is 30 ms.
        self._intervals = [(each, getattr(each, "flush_interval", 0.2)) for each in self._limited]
        for each in self._limited:
            each.flush_interval = 0.03
        self._bytes, self._switches = Bucket(_BYTES_PER_SECOND), Bucket(_SWITCHES_PER_SECOND)
        self._last: TextIO | None = None
        self._at_line_start = True
        self._hiding = 0
        self.hidden = 0

    def write(self, stream: int, data: bytes) -> None:
        """Shows a stream's next bytes, or counts them."""
        out = self._out[stream]
        if not is_kernel(out):
            self._put(out, self._decoders[stream].decode(data))
            return
        room = int(self._bytes.level())
        if self._hiding and room < _BYTES_PER_SECOND // 2:
            room = 0
        shown = data[: max(room, 0)]
        if len(shown) < len(data):  # Stop at a line's end if there is one.
            shown = shown[: shown.rfind(b"\n") + 1] or shown
        if shown:
            if self._hiding:
                self._mark()
            text = self._decoders[stream].decode(shown)
            self._put(out, text)
            self._bytes.take(len(json.dumps(text)) - len(shown))
        self._bytes.take(len(data))
        self._hide(stream, len(data) - len(shown))

    def close(self) -> None:
        """Shows what waits for the rest of a character, and puts the intervals back."""
        for stream, decoder in self._decoders.items():
            self._put(self._out[stream], decoder.decode(b"", final=True))
        for each, interval in self._intervals:
            each.flush_interval = interval

    def end_line(self) -> str:
        """Returns a line break if the last line that was shown has none."""
        return "" if self._at_line_start else "\n"

    def _hide(self, stream: int, count: int) -> None:
        if count:
            self._decoders[stream].reset()
            self._hiding += count
            self.hidden += count

    def _mark(self) -> None:
        self._put(sys.stderr, f"{self.end_line()}… {self._hiding:,} bytes left out …\n")
        self._hiding = 0

    def _put(self, out: TextIO, text: str) -> None:
        if not text:
            return
        if self._last and self._last is not out and self._switches.level() >= 1:
            # Each stream waits by itself; this keeps their order where it can be seen.
            self._switches.take(1)
            self._last.flush()
        out.write(text)
        if not is_kernel(out):
            out.flush()
        self._last, self._at_line_start = out, text.endswith("\n")


class Status:
    """One line that comes and goes: what is being waited for.

    In a notebook it is an output of its own, since a stream there cannot take a line back; in a
    terminal it is the last line of stderr. What is over within 0.3 s is not worth a line.
    """

    def __init__(self) -> None:
        self._since = time.monotonic()
        self._shown = 0
        self._display_id: str | None = None

    def say(self, text: str) -> None:
        """Shows the text in the place of the one before it."""
        if is_kernel(sys.stderr):
            if self._display_id or time.monotonic() - self._since > _NOT_WORTH_A_LINE:
                self._show(text, f"<small>{html.escape(text)}</small>")
        elif sys.stderr.isatty():
            sys.stderr.write("\r" + text.ljust(self._shown))
            sys.stderr.flush()
            self._shown = len(text)

    def clear(self) -> None:
        """Takes the line away."""
        if self._display_id:
            self._show("", "<span></span>")
            self._display_id = None
        elif self._shown:
            self.say("")
            sys.stderr.write("\r")
            self._shown = 0

    def _show(self, text: str, as_html: str) -> None:
        options: dict[str, Any] = {"display_id": self._display_id or str(uuid.uuid4())}
        if self._display_id:
            options["update"] = True
        self._display_id = options["display_id"]
        display({"text/plain": text, "text/html": as_html}, **options)


def note(text: str) -> None:
    """Shows a line that stays: in a notebook an output of its own, else on stderr."""
    if is_kernel(sys.stderr):
        display({"text/plain": text, "text/html": f"<small>{html.escape(text)}</small>"})
    else:
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def display(data: dict[str, Any], **options: Any) -> None:
    """Shows rich output where IPython is; elsewhere nothing."""
    module = sys.modules.get("IPython")
    if module is not None:
        module.display.display(data, raw=True, **options)
