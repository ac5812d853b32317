"""`marconiview`: the cluster's page, in the notebook as an iframe or in a window of its own.

Called by IPython's display. Every display asks the bridge for a new address, whose code is good
once and for a minute; while the cluster is not connected it is the login page's, which leads on to
the cluster's. Invariants: the page has another origin than the notebook, so neither can
read the other; no window opens by itself from a notebook that was saved and opened again.
"""

from __future__ import annotations

import html
import json
import time
import uuid
from string import Template
from typing import Any

from . import _http
from ._errors import HpcError
from ._rpc import hpcrpc
from ._run import page_url

_ALLOW = "clipboard-read; clipboard-write; fullscreen; local-network-access; loopback-network"

# The cluster's page comes from the login node: it may not navigate the notebook's own tab.
_SANDBOX = (
    "allow-scripts allow-same-origin allow-forms allow-modals allow-downloads "
    "allow-popups allow-popups-to-escape-sandbox"
)

# The notebook and the page are one site only if both say localhost or both 127.0.0.1; only then
# may the page keep its token over a reload. `$…` is filled in by `_fill`.
_PAGE = """<div id="$id" style="font:13px var(--jp-ui-font-family,sans-serif)">$inner</div>
<script>(() => {
  const box = document.getElementById("$id"), url = new URL($url);
  if (location.hostname === "127.0.0.1") url.hostname = "127.0.0.1";
  const theme = () => document.body.dataset.jpThemeLight
    ? (document.body.dataset.jpThemeLight === "false" ? "dark" : "light")
    : (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
  url.searchParams.set("theme", theme());
  $script
})();</script>"""

_FRAME = """<iframe title="hpcclient: $cluster" allow="$allow" sandbox="$sandbox"
  width="$width" height="$height" style="border:0;display:block;max-width:100%"></iframe>
<noscript><iframe src="$href" width="$width" height="$height" allow="$allow"
  sandbox="$sandbox"></iframe></noscript>"""

_FRAME_SCRIPT = """const frame = box.querySelector("iframe");
  frame.src = url.href;
  // The login page goes on to another origin. A colour is nothing that one of them may not know.
  new MutationObserver(() => frame.contentWindow?.postMessage({hpcTheme: theme()}, "*"))
    .observe(document.body, {attributes: true, attributeFilter: ["data-jp-theme-light"]});"""

_WINDOW = """<button type="button">Open the window of $cluster</button> <span role="status"></span>
<noscript><a href="$href" target="_blank" rel="noopener">Open the page of $cluster</a></noscript>"""

_WINDOW_SCRIPT = """let page = null;
  const status = box.querySelector("span"), fresh = () => Date.now() - $made < 60000;
  const open = () => {
    if (page && !page.closed) return page.focus();
    if (page || !fresh()) {
      status.textContent = "This address has been used or is too old: run the cell again.";
      return;
    }
    page = window.open(url.href, "_blank", "popup,width=$width,height=$height");
    if (page) page.opener = null;  // The page comes from the node; this tab is not its to steer.
    status.textContent = page ? "" :
      "The browser blocked the window: press the button, or allow pop-ups for this site.";
  };
  box.querySelector("button").onclick = open;
  if (fresh()) open();"""


class View:
    """The page of `hpcrpc`'s cluster; as the last line of a cell it shows itself.

    `params['width']` and `params['height']` are its size, in pixels or as CSS lengths;
    `params['window'] = 1` opens a window of its own. `url` is a new address for any browser on
    this machine, good once and for one minute.
    """

    def __init__(self) -> None:
        self.params: dict[str, Any] = {"window": 0, "width": "100%", "height": 640}

    @property
    def url(self) -> str:
        """A new address of the page; of the login page if the cluster is not connected."""
        try:
            return page_url(hpcrpc.cluster)
        except HpcError as error:
            # Not connected, nothing says to which cluster, or not connected again in time.
            if error.code not in ("notConnected", "badRequest", "unavailable"):
                raise
        return str(_http.get_json("POST", "/v1/login-page", {"cluster": hpcrpc.cluster})["url"])

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        url, width, height = self.url, self.params["width"], self.params["height"]
        inner, script = _FRAME, _FRAME_SCRIPT
        if self.params["window"]:
            inner, script = _WINDOW, _WINDOW_SCRIPT
            width, height = (each if isinstance(each, int) else 0 for each in (width, height))
            width, height = width or 1280, height or 800
        values = {"id": f"hpc-{uuid.uuid4()}", "made": str(int(time.time() * 1000))}
        name = "the default cluster" if hpcrpc.cluster == "default" else hpcrpc.cluster
        values |= {"cluster": name, "href": url, "allow": _ALLOW, "sandbox": _SANDBOX}
        values |= {"width": str(width), "height": str(height)}
        values = {name: html.escape(value) for name, value in values.items()}
        values["url"] = json.dumps(url).replace("<", "\\u003c")
        page = _fill(_fill(_PAGE, {"inner": inner, "script": script}), values)
        return {"text/html": page, "text/plain": f"open {url} in a browser, within a minute"}

    def __repr__(self) -> str:
        return "<marconiview: the last line of a notebook cell shows it; elsewhere open its .url>"


def _fill(text: str, values: dict[str, str]) -> str:
    return Template(text).safe_substitute(values)


marconiview = View()
