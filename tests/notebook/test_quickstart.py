"""The quickstart notebook and the cell's ■, in a real kernel against a real cluster.

`cargo xtask test` sets HPCCLIENT_BIN and HPCCLIENT_CLUSTER. Nothing here is a double.
"""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from queue import Empty

import nbclient
import nbformat
import pytest
from jupyter_client.manager import start_new_kernel

NOTEBOOK = Path(__file__).parents[2] / "examples" / "quickstart.ipynb"
SECONDS = 60


def text_of(outputs, name):
    """Returns what went to a stream, all its messages joined."""
    return "".join(each["text"] for each in outputs if each.get("name") == name)


@pytest.fixture(scope="module")
def cells():
    """The executed code cells of the quickstart: source to outputs."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    nbclient.NotebookClient(notebook, timeout=SECONDS, kernel_name="python3").execute()
    return [(cell.source, cell.outputs) for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture
def outputs(cluster, cells):
    """Returns a function from the start of a cell's source to its outputs."""
    return lambda start: next(out for source, out in cells if source.startswith(start))


def test_any_name_is_a_command(outputs):
    shown = outputs("hpcrpc.ls")
    # The first call logs in; where that takes long a line says so, and goes.
    assert {each.output_type for each in shown} - {"display_data"} == {"stream"}
    assert re.search(r"^total \d+$", text_of(shown, "stdout"), re.M)
    assert re.search(r"^d\S+ .* \.\.?$", text_of(shown, "stdout"), re.M)


def test_streams_are_told_apart_and_in_order(outputs):
    shown = outputs("hpcrpc.execute('for")
    assert text_of(shown, "stdout") == "out 1\nout 2\nout 3\n"
    assert text_of(shown, "stderr") == "err 1\nerr 2\nerr 3\n"
    order = "".join(each["text"] for each in shown)
    assert order == "out 1\nerr 1\nout 2\nerr 2\nout 3\nerr 3\n"


def test_a_result_has_text_and_code(outputs):
    shown = outputs("r = hpcrpc.execute('echo hello")
    assert text_of(shown, "stdout") == "hello\n"
    assert shown[-1]["data"]["text/plain"] == "('hello\\n', 3)"


def test_the_shell_remembers(outputs):
    assert text_of(outputs("hpcrpc.cd"), "stdout") == "/tmp\n"


def test_argv_meets_no_shell_and_attach_shows_it_again(outputs):
    for start in ("hpcrpc.run([", "hpcrpc.runs[-1]"):
        assert [each.output_type for each in outputs(start)] == ["stream"]
        assert text_of(outputs(start), "stdout") == "a b;$c"


def test_a_run_that_goes_on_is_talked_to(outputs):
    assert outputs("r = hpcrpc.start")[-1]["data"]["text/plain"] == "'42\\n>>> '"
    shown = outputs("from concurrent.futures")[-1]["data"]["text/plain"]
    assert sorted(ast.literal_eval(shown)) == ["0\n", "1\n", "2\n"]


def test_a_call_can_be_awaited_in_the_loop_of_jupyter(outputs):
    assert outputs("await hpcrpc.aio") == []  # A result that is good shows nothing.


def test_the_page_is_an_iframe(outputs):
    (shown,) = outputs("marconiview")
    assert re.search(r"http://localhost:\d+/#code=", shown["data"]["text/html"])
    assert "<iframe" in shown["data"]["text/html"]


class Kernel:
    """A real kernel that cells are run in by hand."""

    def __init__(self):
        self.manager, self.client = start_new_kernel(kernel_name="python3")
        self.run("from hpcclient import *")

    def start(self, code):
        """Starts a cell."""
        return self.client.execute(code)

    def outputs(self, cell, until=lambda outputs: False):
        """Collects a cell's messages until it is over, or `until` says enough."""
        shown, deadline = [], time.monotonic() + SECONDS
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except Empty:
                continue
            if message["parent_header"].get("msg_id") != cell:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "status" and content["execution_state"] == "idle":
                return shown
            if kind in ("stream", "error", "execute_result", "display_data"):
                shown.append({"kind": kind, "at": time.monotonic(), **content})
                if until(shown):
                    return shown
        pytest.fail(f"the cell did not end; it showed {shown}")

    def run(self, code):
        """Runs a cell to its end."""
        return self.outputs(self.start(code))

    def error(self, code):
        """Runs a cell that fails; returns what the user sees of it."""
        (error,) = [each for each in self.run(code) if each["kind"] == "error"]
        return "\n".join(error["traceback"])


@pytest.fixture
def kernel(cluster):
    """A kernel with the package imported."""
    kernel = Kernel()
    yield kernel
    kernel.client.stop_channels()
    kernel.manager.shutdown_kernel()


def stdout_has(text):
    """Returns a condition on the outputs so far."""
    return lambda outputs: text in text_of(outputs, "stdout")


def test_output_is_shown_as_it_happens(kernel):
    kernel.run("hpcrpc.true()")
    shown = kernel.run("hpcrpc.execute('for i in 1 2 3; do echo $i; sleep 0.4; done')")
    assert [each["text"] for each in shown] == ["1\n", "2\n", "3\n"]
    assert shown[2]["at"] - shown[0]["at"] > 0.5


def test_interrupting_the_cell_interrupts_the_command(kernel):
    line = "trap 'echo got INT; exit 9' INT; echo started; while :; do sleep 0.1; done"
    cell = kernel.start(f"hpcrpc.run(['bash', '-c', {line!r}])")
    kernel.outputs(cell, until=stdout_has("started"))
    kernel.manager.interrupt_kernel()
    rest = kernel.outputs(cell)
    assert "got INT\n" in text_of(rest, "stdout")
    (error,) = [each for each in rest if each["kind"] == "error"]
    assert error["traceback"] == ["interrupted: exit 9"]


def test_an_interrupted_line_leaves_the_shell_as_it_was(kernel):
    kernel.run("hpcrpc.execute('cd /tmp; mark=kept')")
    cell = kernel.start("hpcrpc.execute('echo started; sleep 100; echo not this')")
    kernel.outputs(cell, until=stdout_has("started"))
    kernel.manager.interrupt_kernel()
    rest = kernel.outputs(cell)
    assert rest[-1]["traceback"] == ["interrupted: exit 130"]
    assert text_of(rest, "stdout") == ""
    shown = kernel.run("hpcrpc.execute('pwd; echo $mark')")
    assert text_of(shown, "stdout") == "/tmp\nkept\n"


def test_a_command_that_ignores_the_interrupt_is_killed_by_the_second(kernel):
    line = "trap '' INT; echo started; while :; do sleep 0.1; done"
    cell = kernel.start(f"hpcrpc.bash('-c', [{line!r}])")
    kernel.outputs(cell, until=stdout_has("started"))
    kernel.manager.interrupt_kernel()
    time.sleep(1)  # The pause between two clicks, not a wait for anything.
    kernel.manager.interrupt_kernel()
    rest = kernel.outputs(cell)
    assert "interrupted: exit 137" in "".join(rest[-1]["traceback"])


def test_a_flood_is_limited_and_complete(kernel):
    shown = kernel.run("r = hpcrpc.execute('seq 1000000')")
    assert len(text_of(shown, "stdout")) < 2_000_000
    assert "bytes more" in text_of(shown, "stderr")
    code = "r.stdout == ''.join(f'{n}\\n' for n in range(1, 1000001))"
    assert kernel.run(code)[0]["data"]["text/plain"] == "True"


def test_a_hundred_megabytes(kernel):
    kernel.run("r = hpcrpc.execute('head -c 100000000 /dev/zero', quiet=True)")
    shown = kernel.run("len(r.stdout_bytes), r.stdout_bytes.count(0)")
    assert shown[0]["data"]["text/plain"] == "(100000000, 100000000)"


def bridge_pid(kernel):
    """Returns the process id of the bridge."""
    argv = [os.environ["HPCCLIENT_BIN"], "bridge", "--ensure"]
    told = subprocess.run(argv, capture_output=True, check=True).stdout
    return json.loads(told)["pid"]


def agent_pid(kernel):
    """Returns the process id of the agent; the test's login node is this machine."""
    path = f"/c/{os.environ['HPCCLIENT_CLUSTER']}/v1/status"
    shown = kernel.run(f"from hpcclient import _http; _http.get_json('GET', {path!r})['hello']")
    return ast.literal_eval(shown[0]["data"]["text/plain"])["pid"]


@pytest.mark.parametrize("pid_of", [bridge_pid, agent_pid])
def test_a_killed_process_costs_nothing(kernel, pid_of):
    count = 1_000_000
    kernel.run("hpcrpc.true()")
    pid = pid_of(kernel)
    line = f"echo 0; sleep 1; seq {count}"
    cell = kernel.start(f"r = hpcrpc.execute({line!r})")
    kernel.outputs(cell, until=stdout_has("0\n"))
    os.kill(pid, signal.SIGKILL)
    kernel.outputs(cell)
    code = f"r.returncode, r.stdout == ''.join(f'{{n}}\\n' for n in range({count} + 1))"
    assert kernel.run(code)[0]["data"]["text/plain"] == "(0, True)"
    code = "hpcrpc.runs[-1].attach(quiet=True).stdout == r.stdout"
    assert kernel.run(code)[0]["data"]["text/plain"] == "True"


def test_stdin_environment_and_time_limit(kernel):
    text = "'\\xff line\\n' * 100_000"
    kernel.run(f"r = hpcrpc.run(['cat'], stdin={text}, quiet=True)")
    assert kernel.run(f"r.stdout == {text}")[0]["data"]["text/plain"] == "True"
    shown = kernel.run("hpcrpc.execute('echo $A; pwd', env={'A': 'b c'}, cwd='/usr')")
    assert text_of(shown, "stdout") == "b c\n/usr\n"
    seen = kernel.error("hpcrpc.run(['sleep', 100], timeout=0.5)")
    assert seen == "error: it took longer than 0.5 s and was killed"


def test_what_cannot_be_run_says_why(kernel):
    shown = kernel.run("hpcrpc.execute('no-such-command')")
    assert "not found" in text_of(shown, "stderr")
    assert shown[-1]["data"]["text/plain"].startswith("exit 127")
    shown = kernel.run("hpcrpc.run(['/no/such/program'])")
    assert shown[-1]["data"]["text/plain"].startswith("exit 127")
    assert "/no/such/program" in text_of(shown, "stderr")


def test_a_login_asks_in_the_notebook(kernel):
    cell = kernel.start("connect(hpcrpc.status()['destination'])")
    asked = kernel.client.get_stdin_msg(timeout=SECONDS)["content"]
    assert "SHA256:" in asked["prompt"]
    assert asked["password"] is False
    kernel.client.input("no")
    (error,) = [each for each in kernel.outputs(cell) if each["kind"] == "error"]
    assert error["ename"] == "HostKeyUnknown"
    assert text_of(kernel.run("hpcrpc.echo('the old one is used')"), "stdout").startswith("the old")


def test_an_error_is_a_sentence_and_not_our_insides(kernel):
    seen = kernel.error("connect('nobody@no-such-host.invalid:22')")
    assert seen.startswith("error: ")
    assert "Traceback" not in seen
    assert ".py" not in seen


def value(kernel, code):
    """Returns what a cell's last expression is shown as."""
    shown = kernel.run(code)
    assert shown[-1]["kind"] == "execute_result", shown
    return shown[-1]["data"]["text/plain"]


def test_a_started_line_stands_beside_the_shell(kernel):
    kernel.run("hpcrpc.execute('cd /usr; mark=kept')")
    kernel.run("r = hpcrpc.start('pwd; cat; exit 3')")
    assert text_of(kernel.run("hpcrpc.execute('echo $mark')"), "stdout") == "kept\n"
    assert value(kernel, "r.readline()") == "'/usr\\n'"
    kernel.run("r.write('typed\\n'); r.eof()")
    assert value(kernel, "r.result(30).returncode, list(r)") == "(3, ['typed\\n'])"
    assert value(kernel, "hpcrpc.runs[-2].result().stdout") == "'/usr\\ntyped\\n'"


@pytest.mark.parametrize("pid_of", [bridge_pid, agent_pid])
def test_a_dialogue_goes_on_when_a_process_is_killed(kernel, pid_of):
    kernel.run("r = hpcrpc.start('python3 -i -q'); r.expect('>>> ')")
    for number in range(3):
        os.kill(pid_of(kernel), signal.SIGKILL)
        kernel.run(f"r.write('{number} + 40\\n')")
        assert value(kernel, "r.expect('>>> ')") == f"'{number + 40}\\n>>> '"
    kernel.run("r.eof()")
    assert value(kernel, "r.result(30).returncode") == "0"


def test_cancel_ends_every_process_of_it(kernel):
    kernel.run("r = hpcrpc.start('sleep 1000 & sleep 1000 & echo $!; wait')")
    pid = int(ast.literal_eval(value(kernel, "r.readline()")))
    assert value(kernel, "r.cancel(), r.cancelled()") == "(True, True)"
    deadline = time.monotonic() + SECONDS
    while Path(f"/proc/{pid}/stat").exists():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_what_is_stored_is_asked_for_in_parts(kernel, tmp_path):
    kernel.run("hpcrpc.execute('seq 1 2000; printf \"\\\\033[31mred\\\\033[0m\\\\n\" >&2')")
    kernel.run("run = hpcrpc.runs[-1]")
    assert value(kernel, "run.head(2), run.tail(2), run.tail(1, 'stderr')") == (
        "('1\\n2\\n', '1999\\n2000\\n', '\\x1b[31mred\\x1b[0m\\n')"
    )
    code = "import re; [h.text for h in run.search(re.compile('^19{2}[0-9]$'), stream='stdout')]"
    assert ast.literal_eval(value(kernel, code)) == [str(number) for number in range(1990, 2000)]
    code = "[(h.stream, h.line) for h in run.search('RED', ignore_case=True)], run.search('1.9')"
    assert value(kernel, code) == "([('stderr', 1)], no line matches)"
    assert value(kernel, "run.text(since=0) == run.stdout, run.text(until=1)") == "(True, '')"
    kernel.run(f"run.export({str(tmp_path / 'out')!r}, as_='text', stream='stderr')")
    assert (tmp_path / "out").read_text() == "red\n"
    shown = kernel.run("run.attach(tail=1)")
    assert (text_of(shown, "stdout"), text_of(shown, "stderr")) == (
        "2000\n",
        "\x1b[31mred\x1b[0m\n",
    )


def test_marks_and_lists_of_runs(kernel):
    kernel.run("r = hpcrpc.start('cat', name='the cat'); other = hpcrpc.run(['echo', 'x']).run")
    assert value(kernel, "len(hpcrpc.runs.find(text='THE CAT')), r.name") == "(1, 'the cat')"
    assert value(kernel, "[run.id for run in hpcrpc.runs.find(live=True)] == [r.id]") == "True"
    assert "has not ended" in kernel.error("r.delete()")
    kernel.run("r.pin(); r.eof(); r.result(30)")
    assert (
        value(kernel, "r.pinned, [run.id == r.id for run in hpcrpc.runs]")
        == "(True, [True, False])"
    )
    kernel.run("other.delete()")
    assert value(kernel, "len(hpcrpc.runs), r.rerun().cancel()") == "(1, True)"
    kernel.run("c = hpcrpc.start('cat', pty=True)")
    assert value(kernel, "hpcrpc.consoles[-1].id == c.id, c.cancel()") == "(True, True)"


def test_a_terminal_knows_its_size(kernel):
    kernel.run("r = hpcrpc.start(['stty', 'size'], pty=(132, 50))")
    assert value(kernel, "r.result(30).stdout") == "'50 132\\r\\n'"


def test_typing_into_a_cell(kernel):
    cell = kernel.start("r = hpcrpc.execute('read name; echo hello $name', stdin=input)")
    kernel.client.get_stdin_msg(timeout=SECONDS)
    kernel.client.input("alice")
    assert text_of(kernel.outputs(cell), "stdout").endswith("hello alice\n")
    assert value(kernel, "r.returncode") == "0"


def test_fifty_calls_are_awaited_in_the_loop_of_jupyter(kernel):
    kernel.run("import asyncio")
    kernel.run("calls = [hpcrpc.aio.run(['echo', n]) for n in range(50)]")
    code = "[r.stdout for r in await asyncio.gather(*calls)]"
    assert ast.literal_eval(value(kernel, code)) == [f"{number}\n" for number in range(50)]
    kernel.run("r = await hpcrpc.aio.start(['seq', 3])")
    assert value(kernel, "[line async for line in r]") == "['1\\n', '2\\n', '3\\n']"
