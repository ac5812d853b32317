"""What is asked of the store: lists, marks, parts of the output, what is not kept any more."""

from __future__ import annotations

import json
import re
import struct
from datetime import datetime, timezone

import pytest

import hpcclient
from hpcclient import _run, _wire


def query(path):
    """Returns a path's query, in its order."""
    return path.partition("?")[2]


def test_bytes_that_are_not_kept_are_counted(fake, rpc, capsys):
    def behave(run):
        run.forget(1, 6)
        run.write(1, b"gone\nhere\n")
        run.end(1)

    fake.behave, fake.cuts = behave, [0, 400]
    result = rpc.execute("x")
    assert (result.stdout, result.missing) == ("ere\n", 6)
    assert str(result) == "exit 1; 6 bytes of its output are not kept"
    assert "6 bytes of its output are not kept any more" in capsys.readouterr().err
    again = rpc.runs[-1].result()
    assert (again.stdout_bytes, again.missing) == (b"ere\n", 6)


def test_a_stream_that_nobody_knows_is_a_damaged_stream():
    frame = struct.pack(">BBQI", 1, 9, 0, 1) + b"x"
    with pytest.raises(hpcclient.HpcError, match="damaged: frame type 1 of stream 9"):
        list(_wire.Frames().push(frame))


def test_stdin_that_cannot_be_sent_is_told(fake, rpc, capsys, monkeypatch):
    def refuse(self, data, over):
        raise hpcclient.NoSpace("no space left")

    def behave(run):
        run.write(1, b"x")
        while not fake.seen("PUT"):
            pass
        run.end()

    monkeypatch.setattr(_run.Writer, "feed", refuse)
    fake.behave = behave
    rpc.execute("x", stdin="data")
    assert "stdin was not sent: no space left" in capsys.readouterr().err


def test_marks(fake, rpc):
    rpc.true()
    run = rpc.runs[-1]
    run.rename("the best")
    run.pin()
    assert (run.name, run.pinned) == ("the best", True)
    assert "* the best: true" in repr(rpc.runs)
    run.unpin()
    run.rename(None)
    patched = [json.loads(body) for verb, _, body in fake.requests if verb == "PATCH"]
    assert patched == [{"name": "the best"}, {"pinned": True}, {"pinned": False}, {"name": ""}]
    run.delete()
    assert not fake.runs


def test_lists_can_be_narrowed(fake, rpc):
    for line in ("make all", "make test", "ls"):
        rpc.execute(line)
    other = hpcclient.Rpc().execute("make more")
    assert len(rpc.runs.find(text="make")) == 2
    assert rpc.runs.all.find(text="make")[-1].id == other.id
    assert len(rpc.consoles) == 0
    rpc.runs.find(state="lost", console=False)[:]
    assert query(fake.seen("GET", "state=lost")[0]) == (
        f"limit=500&session={rpc._session}&state=lost&console=false"
    )
    assert query(fake.seen("GET", "console=true")[0]) == "limit=500&console=true&live=true"


def test_a_search_is_made_at_the_node(fake, rpc):
    hit = {"stream": "stdout", "line": 3, "offset": 20, "tMs": 1500, "text": "an \x1b[31merror"}
    fake.asked["search"] = {"hits": [hit], "cut": "more than 1 line"}
    rpc.true()
    run = rpc.runs[-1]
    hits = run.search("a+b", stream="stdout", limit=1)
    assert hits[0].time == datetime.fromtimestamp(1.5, timezone.utc)
    assert (hits[0].line, hits[0].offset, hits.cut) == (3, 20, "more than 1 line")
    assert repr(hits) == "stdout:3: an \\x1b[31merror\n… more than 1 line"
    run.search(re.compile("x|y", re.IGNORECASE))
    assert [query(path) for path in fake.seen("GET", "/search")] == [
        "pattern=a%2Bb&fixed=true&ignoreCase=false&stream=stdout&limit=1",
        "pattern=x%7Cy&fixed=false&ignoreCase=true",
    ]


def test_parts_of_the_output(fake, rpc):
    fake.behave = lambda run: (run.write(1, b"a\nb\n"), run.end())
    rpc.true()
    run = rpc.runs[-1]
    fake.asked["stdout"] = b"part\n"
    assert (run.head(3), run.tail(), run.text(since=1, until=datetime.fromtimestamp(2.5))) == (
        "part\n",
        "part\n",
        "part\n",
    )
    asked = [query(path) for path in fake.seen("GET", "/stdout")]
    assert asked == ["head=3", "tail=10", "since=1000&until=2500"]


def test_an_export_is_whole_or_not_there(fake, rpc, tmp_path, monkeypatch):
    rpc.true()
    run, file = rpc.runs[-1], tmp_path / "out.cast"
    fake.asked["export"] = b"x" * 100_000
    run.export(file, as_="cast")
    assert file.read_bytes() == b"x" * 100_000
    assert query(fake.seen("GET", "/export")[0]) == "as=cast"

    parts = set()

    class Cut:
        def __init__(self):
            self.left = 2

        def read_some(self):
            parts.update(each.name for each in tmp_path.iterdir() if each.name != "out.cast")
            self.left -= 1
            if not self.left:
                raise ConnectionResetError
            return b"part"

        def close(self):
            pass

    monkeypatch.setattr("hpcclient._http.request", lambda *_: Cut())
    for _ in range(2):
        with pytest.raises(hpcclient.Unavailable):
            run.export(tmp_path / "other")
    assert len(parts) == 2  # Two at a time do not write into one file.
    assert [each.name for each in tmp_path.iterdir()] == ["out.cast"]


def test_a_run_is_run_again(fake, rpc):
    first = rpc.run(["echo", "x"], cwd="/tmp", timeout=5)
    again = rpc.runs[-1].rerun()
    assert again.result(5).ok
    assert again.id != first.id
    assert fake.runs[again.id].spec == fake.runs[first.id].spec


def test_attach_to_the_end_of_a_long_output(fake, rpc, capsys):
    def behave(run):
        for number in range(100):
            run.write(1, b"%d\n" % number)
        run.end()

    fake.behave = behave
    rpc.execute("x", quiet=True)
    # What an agent with `tail` sends: it starts at a later offset.
    size = fake.runs[rpc.runs[-1].id].sizes[1]
    whole, fake.tail_from = "".join(f"{n}\n" for n in range(100)), {1: size - 6}
    result = rpc.runs[-1].attach(tail=2)
    assert capsys.readouterr().out == "98\n99\n"
    assert result.stdout == whole
