"""What a notebook shows: the limit to its front end, results, the page."""

from __future__ import annotations

import io
import json

import pytest

import hpcclient
from hpcclient import _show


class KernelStream(io.StringIO):
    """Looks like ipykernel's stream."""

    flush_interval = 0.2


KernelStream.__module__ = "ipykernel.iostream"


@pytest.fixture
def kernel(monkeypatch):
    """Returns what puts kernel streams in the place of this process'."""

    def start():  # pytest puts its own streams in place between a fixture and its test.
        out, err = KernelStream(), KernelStream()
        monkeypatch.setattr("sys.stdout", out)
        monkeypatch.setattr("sys.stderr", err)
        return out, err

    return start


def test_a_flood_shows_its_start_and_the_count(fake, rpc, kernel):
    line = b"0123456789abcde\n"

    def behave(run):
        for _ in range(100):
            run.write(1, line * 1000)
        run.end()

    fake.behave = behave
    out, err = kernel()
    result = rpc.execute("flood")
    assert 400_000 < len(out.getvalue()) < 900_000
    assert out.getvalue() == line.decode() * (len(out.getvalue()) // len(line))
    more = 1_600_000 - len(out.getvalue())
    assert f"… {more:,} bytes more" in err.getvalue()
    assert len(result.stdout_bytes) == 1_600_000
    assert out.flush_interval == 0.2


def test_after_a_flood_output_is_shown_again(kernel, monkeypatch):
    now = [100.0]
    out, err = kernel()
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    screen = _show.Screen()
    screen.write(1, b"x" * 2_000_000)
    assert screen.hidden == 1_500_000
    now[0] += 5
    screen.write(1, b"the end\n")
    screen.close()
    assert out.getvalue() == "x" * 500_000 + "the end\n"
    assert err.getvalue() == "\n… 1,500,000 bytes left out …\n"


def test_a_character_in_two_pieces_is_one(kernel):
    out, _ = kernel()
    screen = _show.Screen()
    for byte in "né…".encode():
        screen.write(1, bytes([byte]))
    screen.close()
    assert out.getvalue() == "né…"


def test_a_failed_result_shows_one_line_and_a_good_one_nothing(fake, rpc, monkeypatch):
    shown = []
    monkeypatch.setattr("hpcclient._result.display", shown.append)
    rpc.true()._ipython_display_()
    fake.behave = lambda run: run.end(3)
    rpc.false()._ipython_display_()
    assert shown == [{"text/plain": "exit 3"}]


def test_the_page_is_an_iframe_with_a_new_address_each_time(rpc):
    view = hpcclient.View()
    first, second = (view._repr_mimebundle_()["text/html"] for _ in range(2))
    assert first != second
    assert '<iframe title="hpcclient: unit"' in first
    assert "http://localhost:1/#code=" in first
    assert "local-network-access; loopback-network" in first
    assert 'width="100%" height="640"' in first
    assert "$" not in first
    assert "window.open" not in first
    assert view._repr_mimebundle_()["text/plain"].startswith("open http://localhost:1/#code=")


def test_the_page_in_a_window_has_a_button_too(rpc):
    view = hpcclient.View()
    view.params.update(window=1, width=900, height=600)
    page = view._repr_mimebundle_()["text/html"]
    assert "popup,width=900,height=600" in page
    assert "<button" in page
    assert "The browser blocked the window" in page
    assert "page.opener = null" in page


def test_the_login_page_is_shown_while_there_is_no_connection(fake, rpc):
    fake.connected = False
    page = hpcclient.View()._repr_mimebundle_()["text/html"]
    assert "http://localhost:2/#code=" in page
    asked = [(path, json.loads(body)) for _, path, body in fake.requests if "login" in path]
    assert asked == [("/v1/login-page", {"cluster": "unit"})]
    assert not any(path.endswith("/connect") for _, path, _ in fake.requests)


def test_what_the_login_page_cannot_help_with_is_an_error(fake, rpc, monkeypatch):
    def refuse(cluster):
        raise hpcclient.HpcError("broken")

    monkeypatch.setattr("hpcclient._view.page_url", refuse)
    with pytest.raises(hpcclient.HpcError, match="broken"):
        _ = hpcclient.View().url


def test_markup_in_a_cluster_name_stays_text(fake, rpc):
    rpc.cluster = '"><script>alert(1)</script>'
    page = hpcclient.View()._repr_mimebundle_()["text/html"]
    assert "<script>alert" not in page
