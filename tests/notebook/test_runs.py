"""Commands and results against a bridge that cuts, repeats and refuses."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid

import pytest

import hpcclient
from hpcclient import _bridge, _http, _run, _stdin, _wire


def lines(run, count=200):
    """Writes numbered lines to both streams."""
    for number in range(count):
        run.write(1, b"out %d\n" % number)
        run.write(2, b"err %d\n" % number)
    run.end()


OUT = "".join(f"out {number}\n" for number in range(200))
ERR = OUT.replace("out", "err")


def test_output_is_shown_and_returned(fake, rpc, capsys):
    def behave(run):
        run.write(1, b"hello\n")
        run.write(2, b"oh\n")
        run.end(3)

    fake.behave = behave
    result = rpc.execute("echo hello; exit 3")
    assert (result.stdout, result.stderr, result.returncode) == ("hello\n", "oh\n", 3)
    assert (result.ok, result.duration, str(result)) == (False, 2.5, "exit 3")
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("hello\n", "oh\n")
    assert fake.runs[result.id].spec["command"] == {"shell": "echo hello; exit 3"}
    rpc.execute("quiet", quiet=True)
    assert capsys.readouterr().out == ""


def test_a_call_is_one_request_in_one_packet_on_a_kept_connection(fake, rpc):
    for _ in range(5):
        rpc.true()
    assert len(fake.requests) == 5
    assert fake.connections == 1
    listener = socket.create_server(("127.0.0.1", 0))
    address = _bridge.Address("127.0.0.1", listener.getsockname()[1], "t")
    _http._kept.__dict__.clear()
    _bridge._known = address

    def send():
        with pytest.raises(_http.BROKEN):
            _http.request("PUT", "/", {})

    thread = threading.Thread(target=send)
    thread.start()
    peer, _ = listener.accept()
    packet = peer.recv(1 << 16)
    peer.close()
    thread.join()
    assert packet.startswith(b"PUT / HTTP/1.1\r\n")
    assert packet.endswith(b"\r\n\r\n{}")


@pytest.mark.parametrize("cut", [0, 1, 13, 14, 200, 333, 1000, 1001, 4097])
def test_a_cut_loses_and_repeats_nothing(fake, rpc, capsys, cut):
    fake.behave, fake.cuts = lines, [cut, cut + 500, cut]
    result = rpc.execute("lines")
    assert (result.stdout, result.stderr) == (OUT, ERR)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == (OUT, ERR)
    assert len(fake.runs) == 1


def test_bytes_that_come_twice_are_seen_once(fake, rpc, capsys):
    fake.behave, fake.cuts, fake.rewind = lines, [1500, 900, 2000], 77
    assert rpc.execute("lines").stdout == OUT
    assert capsys.readouterr().out == OUT


def test_a_new_bridge_is_found_and_the_run_goes_on_there(fake, rpc):
    halfway, moved = threading.Event(), threading.Event()

    def behave(run):
        run.write(1, b"first\n")
        halfway.set()
        assert moved.wait(5)
        run.write(1, b"second\n")
        run.end()

    def move():
        assert halfway.wait(5)
        fake.stop()
        fake.start()
        moved.set()

    fake.behave = behave
    mover = threading.Thread(target=move)
    mover.start()
    result = rpc.execute("slow")
    mover.join()
    assert result.stdout == "first\nsecond\n"
    assert fake.ensured == 2


def test_passing_refusals_are_waited_out_and_others_are_raised(fake, rpc):
    fake.refuse = [(503, "unavailable"), (503, "unavailable")]
    assert rpc.true().ok
    fake.refuse = [(507, "noSpace")]
    with pytest.raises(hpcclient.NoSpace):
        rpc.true()
    fake.refuse = [(502, "connectFailed")]
    with pytest.raises(hpcclient.ConnectFailed):
        rpc.true()


def test_the_login_asks_the_user_and_then_the_call_goes_on(fake, rpc, capsys, monkeypatch):
    fake.connected = False
    fake.events = [
        {"type": "progress", "message": "resolving"},
        {"type": "prompt", "id": "1", "kind": "hostKey", "text": "Trust it?", "echo": True},
        {"type": "prompt", "id": "2", "kind": "password", "text": "Password:", "echo": False},
        {"type": "connected", "cluster": {"name": "unit"}},
    ]
    monkeypatch.setattr("builtins.input", lambda text: "yes")
    monkeypatch.setattr("getpass.getpass", lambda text: "secret")
    assert rpc.true().ok
    assert fake.answers == {"1": "yes", "2": "secret"}
    assert "secret" not in "".join(capsys.readouterr())
    assert len(fake.runs) == 1


def test_a_login_that_fails_is_an_exception_with_a_hint(fake, rpc, monkeypatch):
    def nobody(_):
        raise EOFError

    fake.connected = False
    refused = {"code": "authFailed", "message": "login refused", "hints": ["check the key"]}
    fake.events = [
        {"type": "prompt", "id": "1", "kind": "password", "text": "Password:", "echo": False},
        {"type": "failed", "error": refused},
    ]
    monkeypatch.setattr("getpass.getpass", nobody)
    with pytest.raises(hpcclient.AuthFailed) as caught:
        rpc.true()
    assert fake.answers == {"1": None}
    assert caught.value._render_traceback_() == ["error: login refused", "hint: check the key"]
    assert not fake.runs


def test_a_node_that_cannot_be_reached_again_is_asked_less_and_less(fake, rpc, monkeypatch):
    """A run goes on there; each login that fails is followed by a longer pause."""
    pauses = []

    def pause(seconds):
        pauses.append(seconds)
        if len(pauses) == 12:
            fake.events = [{"type": "connected", "cluster": {"name": "unit"}}]

    def behave(run):
        run.write(1, b"x" * 100)
        fake.connected = False
        run.end()

    gone = {"code": "connectFailed", "message": "cannot reach login port 22"}
    fake.events = [{"type": "failed", "error": gone}]
    fake.behave, fake.cuts = behave, [150]
    monkeypatch.setattr("hpcclient._follow.time.sleep", pause)
    assert rpc.execute("x").stdout == "x" * 100
    assert pauses == sorted(pauses)
    assert pauses[-1] == 30


def interrupting(times, stop_at):
    """Makes a run that ends at its n-th signal, and interrupts this thread so many times."""
    main = threading.get_ident()

    def behave(run):
        run.write(1, b"started\n")
        for count in range(1, times + 1):
            time.sleep(0.05)  # The main thread is in a read, mostly; any place must do.
            signal.pthread_kill(main, signal.SIGINT)
            deadline = time.monotonic() + 5
            while len(run.signals) < count:
                assert time.monotonic() < deadline
                time.sleep(0.002)
        run.write(1, b"bye\n")
        if not run.ended:
            run.end(130, stop_at)

    return behave


def test_an_interrupt_goes_to_the_command_and_its_end_is_seen(fake, rpc, capsys):
    fake.behave = interrupting(1, "INT")
    with pytest.raises(hpcclient.Interrupted) as caught:
        rpc.execute("sleep 100")
    result = caught.value.result
    assert (result.stdout, str(result)) == ("started\nbye\n", "exit 130 (INT)")
    assert capsys.readouterr().out == "started\nbye\n"
    assert fake.runs[result.id].signals == ["INT"]
    assert isinstance(caught.value, KeyboardInterrupt)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_interrupt_kills(fake, rpc):
    fake.behave = interrupting(2, None)
    with pytest.raises(hpcclient.Interrupted) as caught:
        rpc.execute("trap '' INT; sleep 100")
    assert fake.runs[caught.value.result.id].signals == ["INT", "KILL!"]


def test_interrupts_at_any_moment_lose_nothing(fake, rpc):
    main = threading.get_ident()

    def behave(run):
        for number in range(3000):
            run.write(1, b"%d\n" % number)
            if number == 1500:
                signal.pthread_kill(main, signal.SIGINT)
        run.end(0)

    fake.behave = behave
    for _ in range(20):
        with pytest.raises(hpcclient.Interrupted) as caught:
            rpc.execute("numbers", quiet=True)
        assert caught.value.result.stdout == "".join(f"{number}\n" for number in range(3000))


def test_an_interrupt_while_attached_leaves_the_run_alone(fake, rpc):
    main, attached = threading.get_ident(), threading.Event()
    fake.behave = lambda run: run.write(1, b"on\n")
    run = hpcclient.Run("unit", str(uuid.uuid4()))
    _http.get_json("PUT", f"/c/unit/v1/runs/{run.id}", {"command": {"shell": "x"}})

    def interrupt():
        deadline = time.monotonic() + 5
        while not fake.seen("GET", "/stream"):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        attached.set()
        signal.pthread_kill(main, signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(hpcclient.Interrupted, match="goes on"):
        run.attach()
    assert attached.is_set()
    assert fake.runs[run.id].signals == []


@pytest.mark.parametrize("chatty", [False, True])
def test_a_timeout_kills_and_raises(fake, rpc, chatty):
    def behave(run):
        run.write(1, b"so far\n")
        while chatty and not run.ended:
            run.write(1, b".")
            time.sleep(0.01)

    fake.behave = behave
    with pytest.raises(hpcclient.HpcTimeout) as caught:
        rpc.execute("sleep 100", timeout=0.3)
    assert isinstance(caught.value, TimeoutError)
    assert caught.value.result.stdout.startswith("so far\n")
    assert caught.value.result.signal == "KILL"


def test_a_login_that_outlasts_the_timeout_starts_nothing(fake, rpc, monkeypatch):
    fake.connected = False
    fake.events = [
        {"type": "prompt", "id": "1", "kind": "password", "text": "Password:", "echo": False},
        {"type": "connected", "cluster": {"name": "unit", "state": "connected"}},
    ]
    # The person takes their time; the command's is over by then.
    monkeypatch.setattr("getpass.getpass", lambda _: time.sleep(0.3) or "secret")
    with pytest.raises(hpcclient.HpcTimeout, match="before the command could be started"):
        rpc.execute("rm everything", timeout=0.2)
    assert not fake.runs


def test_text_is_text_and_all_else_is_quoted(fake, rpc):
    def sent(result):
        return fake.runs[result.id].spec["command"]

    assert sent(rpc.ls("-la *.py")) == {"shell": "ls -la *.py"}
    assert sent(rpc.cat(pathlib.Path("a b"))) == {"shell": "cat 'a b'"}
    assert sent(rpc.head("-n", 3, ["a b", "$c", 4])) == {"shell": "head -n 3 'a b' '$c' 4"}
    assert sent(rpc.command("gcc-14")("-v")) == {"shell": "gcc-14 -v"}
    assert sent(rpc.command("run")()) == {"shell": "run"}
    assert sent(rpc.run(["printf", b"n\xe9"])) == {"argv": ["printf", {"base64": "buk="}]}
    assert sent(rpc.run(["a", "n\udce9"])) == {"argv": ["a", {"base64": "buk="}]}
    assert sent(rpc.cat(b"n\xe9"))["shell"] == {"base64": "Y2F0ICdu6Sc="}
    with pytest.raises(TypeError, match="argv is a list"):
        rpc.run("ls -la")
    with pytest.raises(AttributeError):
        rpc._repr_html_  # noqa: B018
    spec = fake.runs[rpc.execute("x", cwd="/tmp", env={"A": 1}).id].spec
    assert (spec["cwd"], spec["env"], spec["stdin"]) == ("/tmp", {"A": "1"}, "closed")
    assert spec["session"].startswith("nb-")


def test_output_that_is_not_utf8_is_kept(fake, rpc, capsys):
    def behave(run):
        run.write(1, b"caf\xc3")
        run.write(1, b"\xa9 \xff\xc3")
        run.end()

    fake.behave = behave
    result = rpc.execute("x")
    assert result.stdout_bytes == b"caf\xc3\xa9 \xff\xc3"
    assert result.stdout.encode("utf-8", "surrogateescape") == result.stdout_bytes
    assert capsys.readouterr().out == "café \ufffd\ufffd"


def test_a_large_output_is_fetched_when_it_is_asked_for(fake, rpc, monkeypatch):
    monkeypatch.setattr(_run, "KEEP_BYTES", 1000)
    fake.behave = lines
    result = rpc.execute("lines", quiet=True)
    assert not fake.seen("GET", "/stream")
    assert (result.stdout, result.stderr) == (OUT, ERR)
    assert fake.seen("GET", "/stream")


def test_stdin_reaches_the_command_once(fake, rpc, monkeypatch):
    monkeypatch.setattr(_stdin, "CHUNK", 3)
    fake.behave, fake.cut_stdin = lambda run: None, 1
    assert rpc.cat(stdin="abcdefgh").stdout == "abcdefgh"


def test_runs_are_this_process_runs_in_order(fake, rpc):
    results = [rpc.execute(f"echo {number}") for number in range(5)]
    other = hpcclient.Rpc().execute("other")
    assert [run.id for run in rpc.runs] == [result.id for result in results]
    assert rpc.runs[-1].id == results[4].id
    assert rpc.runs[-3].id == results[2].id
    assert rpc.runs.all[-1].id == other.id
    assert len(rpc.runs) == 5
    assert rpc.runs[results[1].id].returncode == 0
    assert "echo 3" in repr(rpc.runs)
    with pytest.raises(IndexError):
        rpc.runs[-6]


def test_attach_shows_every_byte_again(fake, rpc, capsys):
    fake.behave = lines
    rpc.execute("lines", quiet=True)
    fake.cuts = [2000]
    assert rpc.runs[-1].attach().stdout == OUT
    assert capsys.readouterr().out == OUT
    assert rpc.runs[-1].stdout == OUT
    rpc.runs[-1].signal("SIGTERM")
    assert fake.runs[rpc.runs[-1].id].signals == ["TERM"]


def test_many_threads_run_at_once(fake, rpc):
    together = threading.Barrier(8)

    def behave(run):
        together.wait(5)
        run.write(1, json.dumps(run.spec["command"]["argv"]).encode())
        run.end()

    fake.behave, got = behave, {}

    def call(number):
        got[number] = rpc.run(["echo", number], quiet=True).stdout

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == {number: f'["echo", "{number}"]' for number in range(8)}


def test_the_session_ends_with_the_process_unless_a_run_was_left(fake, rpc):
    rpc.true()
    rpc._end_session()
    assert fake.seen("DELETE") == [f"/c/unit/v1/sessions/{rpc._session}"]
    rpc._open_runs.add("left")
    rpc._end_session()
    assert len(fake.seen("DELETE")) == 1


@pytest.mark.parametrize(
    ("socket", "said"),
    [("/run/agent", b'{"sshAuthSock": "/run/agent"}'), ("agent", b"{}"), ("", b"{}")],
)
def test_the_bridge_is_told_of_this_sessions_ssh_agent(fake, rpc, monkeypatch, socket, said):
    monkeypatch.setenv("SSH_AUTH_SOCK", socket)
    fake.events = [{"type": "connected", "cluster": {"name": "unit"}}]
    rpc.connect()
    assert ("POST", "/v1/clusters/unit/connect", said) in fake.requests


def test_status_and_a_destination_with_odd_characters(fake, rpc):
    assert rpc.status()["state"] == "connected"
    fake.events = [{"type": "connected", "cluster": {"name": "x"}}]
    assert rpc.connect("alice@login.example:22") is rpc
    assert rpc.true().ok
    assert fake.seen("POST", "/v1/clusters/alice%40login.example%3A22/connect")
    assert fake.seen("PUT", "/c/alice%40login.example%3A22/v1/runs/")


def test_run_ids_are_version_7_and_sort_by_time():
    first = uuid.UUID(_wire.new_id())
    time.sleep(0.002)
    second = uuid.UUID(_wire.new_id())
    assert (first.version, first.variant) == (7, uuid.RFC_4122)
    assert first < second
    assert abs((first.int >> 80) / 1000 - time.time()) < 60


def test_a_missing_program_says_where_it_was_looked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("HPCCLIENT_BIN", raising=False)
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "env"))
    monkeypatch.setattr("sysconfig.get_path", lambda *_: str(tmp_path / "scripts"))
    with pytest.raises(hpcclient.BridgeFailed) as caught:
        _bridge.find_binary()
    for place in ("scripts/hpcclient", "env/bin/hpcclient", "every folder of PATH"):
        assert place in str(caught.value)
    monkeypatch.setenv("HPCCLIENT_BIN", str(tmp_path / "gone"))
    with pytest.raises(hpcclient.BridgeFailed, match="HPCCLIENT_BIN"):
        _bridge.find_binary()


def test_a_program_that_starts_no_bridge_is_quoted(monkeypatch, tmp_path):
    program = tmp_path / "hpcclient"
    program.write_text("#!/bin/sh\necho 'error: the disk is full' >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("HPCCLIENT_BIN", str(program))
    with pytest.raises(hpcclient.BridgeFailed, match="the disk is full"):
        _bridge._ensure()


def test_it_imports_without_ipython_and_opens_nothing():
    code = "import sys; sys.modules['IPython'] = None; from hpcclient import *; print(hpcrpc)"
    folder = os.path.dirname(os.path.dirname(hpcclient.__file__))
    environment = {**os.environ, "PYTHONPATH": folder, "HPCCLIENT_BIN": "/nonexistent"}
    environment.pop("HPCCLIENT_CLUSTER", None)
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, env=environment, capture_output=True, check=False)
    assert (done.stdout, done.stderr) == (b"<hpcrpc: cluster 'default'>\n", b"")
