"""`hpcrpc.aio`: many at once on one loop, through cuts, and what cancelling does."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import hpcclient
from hpcclient import _watch


def test_many_calls_wait_together_without_a_thread_each(fake, rpc):
    most = 60
    together = threading.Lock()

    def behave(run):
        with together:
            begun = [each for each in list(fake.runs.values()) if not each.ended]
            for each in begun if len(begun) == most else ():  # All have begun: they may end.
                each.write(1, each.spec["command"]["argv"][1].encode())
                each.end()

    async def main():
        calls = [rpc.aio.run(["echo", number]) for number in range(most)]
        return await asyncio.wait_for(asyncio.gather(*calls), 60)

    fake.behave = behave
    assert [result.stdout for result in asyncio.run(main())] == [str(n) for n in range(most)]


def test_lines_come_through_cuts(fake, rpc):
    def behave(run):
        run.reads(b"go\n")
        for number in range(500):
            run.write(1 + number % 2, b"line %d\n" % number)
        run.end(4)

    async def main():
        r = await rpc.aio.start("lines")
        await r.write("go\n")
        assert await r.expect("line 1\n") == "line 0\nline 1\n"
        lines = [line async for line in r]
        return lines, await r.wait()

    fake.behave, fake.cuts = behave, [0, 5, 300, 2000]
    lines, result = asyncio.run(main())
    assert lines == [f"line {number}\n" for number in range(2, 500)]
    assert result.returncode == 4


def test_what_is_expected_and_does_not_come(fake, rpc):
    async def main():
        r = await rpc.aio.start("x", timeout=5)
        with pytest.raises(hpcclient.HpcTimeout) as caught:
            await r.expect("never", timeout=0.1)
        assert caught.value.text == "so far"
        assert await r.expect("far", timeout=5) == "so far"
        assert await r.cancel()

    fake.behave = lambda run: run.write(1, b"so far")
    asyncio.run(main())


def test_a_cancelled_call_interrupts_its_command(fake, rpc):
    async def main():
        call = asyncio.ensure_future(rpc.aio.execute("sleep 100"))
        deadline = time.monotonic() + 5
        while not fake.runs:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.002)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    fake.behave = lambda run: None
    asyncio.run(main())
    (run,), deadline = fake.runs.values(), time.monotonic() + 5
    assert run.signals == ["INT"]
    assert rpc._open_runs == {run.id}  # Its shell is not ended while it goes on.
    run.end()
    while rpc._open_runs:
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_a_login_that_needs_a_person_is_asked_for(fake, rpc, monkeypatch):
    fake.behave = lambda run: None
    prompt = {"type": "prompt", "kind": "password", "text": "Password:", "echo": False}
    failed = {"type": "failed", "error": {"code": "authFailed", "message": "no answer"}}
    monkeypatch.setattr("getpass.getpass", lambda _: "secret")

    async def main():
        runs = [await rpc.aio.start("x") for _ in range(3)]
        fake.events, fake.connected = [{**prompt, "id": "quiet"}, failed], False
        fake.cut_events()
        watch, deadline = _watch.watcher("unit"), time.monotonic() + 10
        while not watch.needs_login:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        for run in runs:
            fake.runs[run.id].end(0)
        connected = {"type": "connected", "cluster": {"name": "unit"}}
        fake.events = [{**prompt, "id": "asked"}, connected]
        return await asyncio.wait_for(asyncio.gather(*(run.wait() for run in runs)), 20)

    assert all(asyncio.run(main()))
    assert fake.answers == {"quiet": None, "asked": "secret"}
    assert len(fake.seen("POST", "/connect")) == 2


def test_an_error_is_the_callers(fake, rpc):
    fake.refuse = [(507, "noSpace")]
    with pytest.raises(hpcclient.NoSpace):
        asyncio.run(rpc.aio.execute("x"))
    fake.behave = lambda run: run.end(137, "KILL")
    with pytest.raises(hpcclient.HpcTimeout):
        asyncio.run(rpc.aio.run(["x"], timeout=1))


def test_stdin_of_a_call(fake, rpc):
    fake.behave = lambda run: None
    assert asyncio.run(rpc.aio.execute("cat", stdin="abc")).stdout == "abc"
