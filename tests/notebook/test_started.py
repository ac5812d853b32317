"""Runs that go on: writing, reading, futures, against a bridge that cuts and repeats."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import random
import re
import signal
import threading
import time

import pytest

import hpcclient
from hpcclient import _stdin, _text, _watch
from hpcclient._errors import from_wire
from hpcclient._shares import Share


def echo(run):
    """Answers each line of stdin, as a shell with a prompt."""
    run.write(2, b">>> ")
    seen = 0
    deadline = time.monotonic() + 20
    while not run.ended and time.monotonic() < deadline:
        with run.changed:
            if run.stdin.count(b"\n") == seen and not run.ended:
                run.changed.wait(1)
        lines = run.stdin.split(b"\n")[:-1]
        for line in lines[seen:]:
            if line == b"exit":
                run.end(0)
                return
            run.write(1, b"<" + line + b">\n")
            run.write(2, b">>> ")
        seen = len(lines)


def nothing(run):
    """Goes on and says nothing."""


def test_a_dialogue_through_cuts(fake, rpc):
    fake.behave, fake.cuts = echo, [3, 250, 260, 240, 0, 13]
    r = rpc.start("python -i")
    assert fake.runs[r.id].spec["command"] == {"argv": ["bash", "-lc", "python -i"]}
    assert (fake.runs[r.id].spec["stdin"], "pty" in fake.runs[r.id].spec) == ("open", False)
    assert r.expect(">>> ") == ">>> "
    for number in range(20):
        fake.cut_stdin = number % 3 == 0
        r.write(f"{number}\n")
        assert r.expect(">>> ") == f"<{number}>\n>>> "
    r.write("last\n")
    assert r.expect(re.compile(r"<(\w+)>")) == "<last>"
    assert r.readline() == "\n"
    r.write(b"exit\n")
    assert r.read() == ">>> "
    assert r.result(5).returncode == 0
    assert r.done()
    assert fake.runs[r.id].stdin == b"".join(b"%d\n" % n for n in range(20)) + b"last\nexit\n"


def test_what_does_not_come_is_an_error_that_keeps_what_came(fake, rpc):
    fake.behave = lambda run: run.write(1, b"so far")
    r = rpc.start(["x"])
    with pytest.raises(hpcclient.HpcTimeout, match=r"'never' did not come within 0\.2 s") as late:
        r.expect("never", timeout=0.2)
    assert late.value.text == "so far"
    assert isinstance(late.value, TimeoutError)
    fake.runs[r.id].write(1, b" and on")
    assert r.expect("on", 5) == "so far and on"
    fake.runs[r.id].end(3)
    with pytest.raises(hpcclient.RunEnded, match=r"ended \(exit 3\) before 'more' came"):
        r.expect("more")
    assert (r.read(), r.readline(), list(r)) == ("", "", [])
    with pytest.raises(TypeError, match="a str"):
        r.expect(b"bytes")


def test_what_is_searched_for_hides_nothing_from_another_search(fake, rpc):
    fake.behave = lambda run: run.write(1, b"one\ntwo\n$ ")
    r = rpc.start(["x"])
    with pytest.raises(hpcclient.HpcTimeout):
        r.expect("never", timeout=0.2)
    assert r.readline() == "one\n"
    with pytest.raises(hpcclient.HpcTimeout):
        r.expect("never", timeout=0.1)
    assert r.expect("$ ", 5) == "two\n$ "
    fake.runs[r.id].write(1, b"three\n")
    assert r.readline() == "three\n"


def test_pieces_and_searches_in_any_order_are_one_text(monkeypatch):
    monkeypatch.setattr(_text, "_BLOCK", 4)
    for seed in range(300):
        dice, buffer, left = random.Random(seed), _text.TextBuffer(), ""
        for _ in range(60):
            act = dice.randrange(6)
            if act < 3:
                piece = "".join(dice.choices("ab\né", k=dice.randrange(9)))
                buffer.feed(1, piece.encode())
                left += piece
                continue
            if act == 3:
                end, found = left.find("\n") + 1, buffer.line()
            elif act == 4:
                sought = dice.choice(["a\nb", "bb", "é"])
                at, found = left.find(sought), buffer.match(sought)
                end = at + len(sought) if at >= 0 else 0
            else:
                hit, found = re.search("a+b", left), buffer.match(re.compile("a+b"))
                end = hit.end() if hit else 0
            assert found == (left[:end] if end else None), seed
            left = left[end:]
        assert buffer.peek() == left


def test_a_line_without_an_end_is_not_collected_for_ever(fake, rpc, monkeypatch):
    monkeypatch.setattr(_text, "_MOST", 1000)
    fake.behave = lambda run: run.write(1, b"x" * 2000)
    r = rpc.start("x")
    with pytest.raises(hpcclient.HpcError, match="the end of a line is not in the next"):
        r.readline()
    assert r.read_some() == "x" * 2000


def test_an_interrupt_while_bytes_are_taken_is_not_lost(fake, rpc):
    fake.behave = lambda run: run.write(1, b"one\n")
    r = rpc.start("x")
    follower = r._reader._follower
    take = follower._take

    def interrupted(stream, data):
        take(stream, data)
        signal.raise_signal(signal.SIGINT)

    follower._take = interrupted
    with pytest.raises(hpcclient.Interrupted, match="goes on"):
        r.readline()
    follower._take = take
    assert r.readline() == "one\n"
    fake.runs[r.id].write(1, b"two\n")
    assert r.readline() == "two\n"


def test_what_fails_after_the_start_does_not_lose_the_run(fake, rpc, monkeypatch, capsys):
    def refuse(*_, **__):
        raise from_wire({"code": "conflict", "message": "refused"})

    monkeypatch.setattr(hpcclient.Started, "rename", refuse)
    monkeypatch.setattr(_stdin.Writer, "write", refuse)
    r = rpc.start(["true"], stdin="x", name="the name")
    assert r.result(5).ok
    assert "it could not be given its name: refused" in capsys.readouterr().err
    assert asyncio.run(rpc.aio.execute("true", stdin="x")).ok


def test_what_has_ended_is_not_cancelled(fake, rpc):
    fake.behave, fake.mute = nothing, True
    r = rpc.start("x")
    fake.runs[r.id].end(3)
    assert not r.cancel()
    assert (r.cancelled(), r.result(1).returncode) == (False, 3)


def test_typing_into_what_is_shared_goes_out_once(fake, rpc):
    fake.behave, main = nothing, threading.get_ident()
    r = rpc.start("cat")
    content = {"object": {"run": {"run": r.id}}, "guests": ["bob"], "access": "drive"}
    shared = Share("unit", {"id": "s", "owner": "me", "title": "", "spec": content}, is_mine=True)
    fake.cut_stdin = 1
    shared.write("one ")
    fake.refuse = [(503, "unavailable")] * 1000
    threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        shared.write("two ")
    fake.refuse = []
    shared.write("three")
    assert fake.runs[r.id].stdin == b"one two three"


def test_lines_are_lines_however_they_come(fake, rpc):
    text = "".join(f"line {number} …\n" for number in range(3000)) + "no end"

    def behave(run):
        data = text.encode()
        for start in range(0, len(data), 7):
            run.write(1, data[start : start + 7])
        run.end()

    fake.behave, fake.cuts = behave, [10_000, 20_000]
    r = rpc.start("lines")
    assert "".join(r) == text
    assert rpc.runs[-1].future().read() == text


def test_reading_keeps_few_connections(fake, rpc):
    fake.behave = lambda run: run.write(1, b"one\n")
    runs = [rpc.start(["x", number]) for number in range(30)]
    assert [r.readline() for r in runs] == ["one\n"] * 30
    assert sum(r._reader._follower.is_open for r in runs) <= 4
    for r in runs:
        fake.runs[r.id].write(1, b"two\n")
    assert [r.readline() for r in runs] == ["two\n"] * 30
    for r in runs:
        fake.runs[r.id].end()


def test_a_thousand_runs_need_one_thread_and_one_subscription(fake, rpc):
    fake.behave, fake.page = nothing, 500
    before = {thread.ident for thread in threading.enumerate()}
    runs = [rpc.start(["x", number]) for number in range(1000)]
    ours = [each for each in threading.enumerate() if each.name.startswith("hpcclient")]
    assert len([each for each in ours if each.ident not in before]) == 1
    first = runs[7]
    fake.runs[first.id].end(7)
    assert next(concurrent.futures.as_completed(runs, 20)).result().returncode == 7
    fake.mute = True  # These ends are not told: after the cut they are asked for.
    for r in runs:
        fake.runs[r.id].end(0)
    fake.mute = False
    fake.cut_events()
    done, rest = concurrent.futures.wait(runs, timeout=20)
    assert (len(done), len(rest)) == (1000, 0)
    assert fake.most_watchers == 1
    assert len(fake.seen("GET", "/v1/runs?")) <= 4


def test_a_run_is_a_future(fake, rpc):
    fake.behave, called = nothing, []
    r = rpc.start("x", timeout=60, nice=5, name="the name", cwd="/tmp", env={"A": 1})
    spec = fake.runs[r.id].spec
    assert (spec["timeoutMs"], spec["nice"], spec["cwd"], spec["env"]) == (
        60_000,
        5,
        "/tmp",
        {"A": "1"},
    )
    assert (r.name, r.done(), r.running(), r.cancelled()) == ("the name", False, True, False)
    with pytest.raises(concurrent.futures.TimeoutError):
        r.result(timeout=0.01)
    r.add_done_callback(called.append)
    assert r.cancel()
    assert fake.runs[r.id].signals == ["KILL!"]
    assert called == [r]
    assert (r.done(), r.cancelled()) == (True, True)
    with pytest.raises(concurrent.futures.CancelledError):
        r.result()
    assert concurrent.futures.wait([r], 1).done == {r}
    assert rpc.runs[-1].result().signal == "KILL"


def test_the_nodes_own_time_limit_is_a_timeout(fake, rpc):
    fake.behave = lambda run: run.end(137, "KILL")
    r = rpc.start("sleep 100", timeout=2)
    with pytest.raises(hpcclient.HpcTimeout, match="longer than 2 s"):
        r.result(5)
    assert isinstance(r.exception(), hpcclient.HpcTimeout)
    with pytest.raises(hpcclient.HpcTimeout, match="longer than 2 s"):
        rpc.runs[-1].result()
    # The laptop slept: the node has ended it, and the call says so.
    with pytest.raises(hpcclient.HpcTimeout, match=r"longer than 2\.5 s") as caught:
        rpc.execute("sleep 100", timeout=2.5)
    assert caught.value.result.signal == "KILL"
    assert rpc.execute("sleep 100", timeout=100).signal == "KILL"


def test_a_run_that_is_deleted_or_refused_ends_too(fake, rpc):
    fake.behave = nothing
    r = rpc.start("x")
    rpc.runs[-1].delete()
    with pytest.raises(hpcclient.NotFound, match="was deleted"):
        r.result(5)
    fake.refuse = [(507, "noSpace")]
    with pytest.raises(hpcclient.NoSpace):
        rpc.start("x")
    assert not _watch.watcher("unit")._runs


def test_a_login_that_needs_a_person_is_asked_for_where_one_waits(fake, rpc, monkeypatch):
    fake.behave = nothing
    fake.events = [
        {"type": "prompt", "id": "1", "kind": "password", "text": "Password:", "echo": False},
        {"type": "failed", "error": {"code": "authFailed", "message": "no answer"}},
    ]
    r = rpc.start("x")
    fake.connected = False
    fake.cut_events()
    deadline = time.monotonic() + 10
    while not _watch.watcher("unit").needs_login:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert fake.answers == {"1": None}
    fake.runs[r.id].end(0)
    fake.events = [
        {"type": "prompt", "id": "2", "kind": "password", "text": "Password:", "echo": False},
        {"type": "connected", "cluster": {"name": "unit"}},
    ]
    monkeypatch.setattr("getpass.getpass", lambda _: "secret")
    assert r.result(20).ok
    assert fake.answers["2"] == "secret"


def test_a_node_that_is_away_needs_no_person(fake, rpc):
    fake.behave = nothing
    away = {"code": "connectFailed", "message": "no route"}
    fake.events = [{"type": "failed", "error": away}]
    r = rpc.start("x")
    fake.connected = False
    fake.cut_events()
    deadline = time.monotonic() + 10
    while len(fake.seen("POST", "/connect")) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert not _watch.watcher("unit").needs_login
    fake.runs[r.id].end(0)
    fake.events = [{"type": "connected", "cluster": {"name": "unit"}}]
    assert r.result(20).ok


def test_a_file_goes_to_stdin_whole(fake, rpc, monkeypatch, tmp_path):
    monkeypatch.setattr(_stdin, "CHUNK", 1000)
    fake.behave, fake.cut_stdin = nothing, 2
    data = bytes(range(256)) * 20
    (tmp_path / "data").write_bytes(data)
    r = rpc.start("cat")
    r.write_file(tmp_path / "data")
    r.write_file(io.StringIO("né"))
    r.eof()
    assert r.result(5).stdout_bytes == data + "né".encode()
    with pytest.raises(hpcclient.HpcError, match="conflict"):
        r.write("too late")
    assert rpc.start("cat", stdin="all of it").result(5).stdout == "all of it"
    assert fake.runs[rpc.start("cat", stdin=False).id].spec["stdin"] == "closed"


def test_an_interrupted_write_goes_out_once(fake, rpc):
    fake.behave, main = nothing, threading.get_ident()
    r = rpc.start("cat")
    fake.refuse = [(503, "unavailable")] * 1000
    threading.Timer(0.1, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        r.write("one ")
    fake.refuse = []
    r.write("two")
    r.eof()
    assert r.result(5).stdout == "one two"


def test_a_terminal_is_asked_for(fake, rpc):
    fake.behave = nothing
    specs = [fake.runs[rpc.start("x", pty=pty).id].spec for pty in (True, (132, 50))]
    assert [spec["pty"] for spec in specs] == [{"cols": 80, "rows": 24}, {"cols": 132, "rows": 50}]


def test_typing_to_a_command_while_it_shows(fake, rpc, capsys):
    fake.behave = echo
    lines = iter(["one", "two", "exit"])

    def ask():
        try:
            return next(lines)
        except StopIteration:
            # A person who types nothing: the command's end ends the question.
            time.sleep(20)
            pytest.fail("the question did not end")

    result = rpc.execute("python -i", stdin=ask)
    assert result.stdout == "<one>\n<two>\n"
    assert not rpc._open_runs
    assert capsys.readouterr().out == "<one>\n<two>\n"
    assert fake.runs[result.id].spec["command"] == {"shell": "python -i"}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_interrupt_while_typing_goes_to_the_command(fake, rpc):
    def behave(run):
        deadline = time.monotonic() + 5
        while not run.signals:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        run.end(130, "INT")

    fake.behave, main, asked = behave, threading.get_ident(), threading.Lock()

    def ask():
        if asked.acquire(blocking=False):
            signal.pthread_kill(main, signal.SIGINT)
        time.sleep(5)

    with pytest.raises(hpcclient.Interrupted) as caught:
        rpc.start("x").interact(ask)
    assert caught.value.result.signal == "INT"


def test_show_shows_in_the_background(fake, rpc, capsys):
    fake.behave = lambda run: (run.write(1, b"shown\n"), run.end())
    r = rpc.start("x", show=True)
    r.result(5)
    for thread in threading.enumerate():
        if thread.name == f"shows {r.id}":
            thread.join(5)
    assert capsys.readouterr().out == "shown\n"


def test_its_place_in_the_queue_is_told(fake, rpc, monkeypatch):
    said = []
    monkeypatch.setattr("hpcclient._show.Status.say", lambda _, text: said.append(text))

    def behave(run):
        for position, text in ((23, "23rd"), (11, "11th"), (1, "1st")):
            run.be("queued", position=position)
            deadline = time.monotonic() + 5
            while said[-1:] != [f"waiting: {text} in the queue"]:
                assert time.monotonic() < deadline
                time.sleep(0.002)
        assert rpc.runs[-1].position == 1
        run.be("running", position=None)
        run.end()

    fake.behave = behave
    assert rpc.execute("x").ok
