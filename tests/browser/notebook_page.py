"""JupyterLab and a browser without a window, for tests of what a person would see."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat

#: The view in the cell that `Page.scroll_to_view` chose: scenes register themselves.
VIEW = """(window.cryonbViews || []).filter(view => window.jupyterapp.shell.currentWidget.content
  .widgets[window.chosenCell].node.contains(view.stage.viewer.container)).at(-1)"""
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
#: Software rendering, which needs no screen and no GPU.
_ARGUMENTS = [
    "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]  # fmt: skip


def chromium() -> str | None:
    """Path of a Chromium, if there is one; CHROMIUM names another."""
    named = os.environ.get("CHROMIUM")
    return named or next(filter(None, map(shutil.which, _CHROMIUM)), None)


def fresh_copy(source: Path, folder: Path) -> str:
    """Copy a notebook without its outputs, whose widgets nobody has any more; its new name."""
    notebook = nbformat.read(source, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    notebook.metadata.pop("widgets", None)
    # Without it JupyterLab asks for a kernel, and waits.
    notebook.metadata["kernelspec"] = {
        "name": "python3", "display_name": "Python 3", "language": "python",
    }  # fmt: skip
    nbformat.write(notebook, folder / source.name)
    return source.name


@contextmanager
def jupyter_lab(root: Path, scratch: Path):
    """Serve a folder; gives the address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    quiet = scratch / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    quiet.parent.mkdir(parents=True)
    quiet.write_text(json.dumps({"fetchNews": "false", "checkForUpdates": False}))
    own = {
        "JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
        "IPYTHONDIR": "ipython", "JUPYTER_RUNTIME_DIR": "runtime",
    }  # fmt: skip
    environment = os.environ | {key: str(scratch / name) for key, name in own.items()}
    command = [
        sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        f"--port={port}", "--ServerApp.port_retries=0", "--IdentityProvider.token=",
        "--ServerApp.password=", f"--ServerApp.root_dir={root}",
        "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    log = scratch / "server.log"
    with log.open("w") as stream:
        server = subprocess.Popen(
            command, stdout=stream, stderr=subprocess.STDOUT, env=environment,
            start_new_session=True,
        )  # fmt: skip
    try:
        _wait_for(port, server, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def _wait_for(port, server, log, seconds=90):
    end = time.monotonic() + seconds
    while True:
        if server.poll() is not None or time.monotonic() > end:
            raise RuntimeError(f"JupyterLab did not start:\n{log.read_text()[-3000:]}")
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.2)
        else:
            return


#: Complaints that are none of ours: icons that JupyterLab asks for.
_HARMLESS = ("favicon", "404")


class Page:
    """A page, with what it complained of, asked for and received.

    Attributes
    ----------
    raw : playwright.sync_api.Page
        The page.
    errors : list of str
        Of the console and of scripts.
    outside : list of str
        Requests to other machines.
    received : int
        Bytes on websockets.
    cell : playwright.sync_api.Locator
        The cell of the view that was chosen by `scroll_to_view`.
    """

    def __init__(self, raw):
        self.raw, self.errors, self.outside, self.received = raw, [], [], 0
        raw.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        raw.on("pageerror", lambda error: self.errors.append(f"script: {error}"))
        raw.on("request", self._asked)
        raw.on("websocket", lambda socket: socket.on("framereceived", self._got))

    def _asked(self, request):
        local = request.url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))
        if not local:
            self.outside.append(request.url)

    def _got(self, frame):
        self.received += len(frame)

    def complaints(self) -> list[str]:
        """Give the errors that may be ours."""
        return [text for text in self.errors if not any(known in text for known in _HARMLESS)]

    def open(self, address: str, name: str) -> None:
        """Open a notebook and wait for its kernel."""
        self.raw.goto(f"{address}/lab/tree/{name}?reset")
        self.raw.wait_for_function(
            "() => window.jupyterapp?.shell?.currentWidget?.context?.isReady", timeout=90_000
        )
        self.raw.evaluate(
            "async () => { const w = window.jupyterapp.shell.currentWidget;"
            " await w.context.ready; await w.sessionContext.ready;"
            " await w.sessionContext.session.kernel.info; }"
        )

    def run_all(self, seconds: int = 240) -> list[str]:
        """Run all cells; the errors in their outputs."""
        self.raw.set_default_timeout(seconds * 1000)
        return self.raw.evaluate(
            """async () => {
              await window.jupyterapp.commands.execute("notebook:run-all-cells");
              const errors = [];
              for (const cell of window.jupyterapp.shell.currentWidget.content.model.cells) {
                if (cell.type !== "code") continue;
                for (let k = 0; k < cell.outputs.length; k++) {
                  const output = cell.outputs.get(k).toJSON();
                  if (output.output_type === "error")
                    errors.push(output.ename + ": " + output.evalue);
                }
              }
              return errors;
            }"""
        )

    def scroll_to_view(self, number: int) -> None:
        """Bring a view into sight, by its place among all, and choose it for what follows.

        JupyterLab makes what is far off only when it is wanted.
        """
        place = self.raw.evaluate(
            """async number => {
              const content = window.jupyterapp.shell.currentWidget.content;
              const shows = cell => cell.type === "code" && Array.from(
                {length: cell.outputs.length}, (_, k) => cell.outputs.get(k).toJSON().data || {}
              ).some(data => "application/vnd.jupyter.widget-view+json" in data);
              const cells = Array.from(content.model.cells);
              const places = cells.map((cell, k) => shows(cell) ? k : -1).filter(k => k >= 0);
              window.chosenCell = places.at(number);
              await content.scrollToItem(window.chosenCell, "center");
              return window.chosenCell;
            }""",
            number,
        )
        self.cell = self.raw.locator(f'[data-windowed-list-index="{place}"]')

    def wait_until_drawn(self, seconds: int = 90, *, settle: int = 1500) -> None:
        """Wait until the chosen view has all its surfaces."""
        self.raw.wait_for_function(
            f"""() => {{ const view = {VIEW};
              return view && view.stage.compList.length > 0 && view.stage.compList.every(
                c => c.reprList.length && (!c.volume || c.reprList[0].repr.surface)); }}""",
            timeout=seconds * 1000,
        )
        # The camera takes its place.
        self.raw.wait_for_timeout(settle)

    def parameter(self, component: str, name: str):
        """Give a parameter of how a part of the view is drawn, as NGL has it."""
        return self.raw.evaluate(
            f"""([component, name]) => ({VIEW}).stage.compList.find(c => c.name === component)
              .reprList[0].getParameters()[name]""",
            [component, name],
        )

    def is_visible(self, component: str) -> bool:
        """Tell whether a part of the view is shown."""
        return self.raw.evaluate(
            f"component => ({VIEW}).stage.compList.find(c => c.name === component).visible",
            component,
        )

    def marked(self) -> int:
        """Count the atoms that are drawn of the marked residue."""
        return self.raw.evaluate(
            f"""() => {{
              const model = ({VIEW}).stage.compList.find(c => c.name === "model");
              const mark = model.reprList.find(shown => shown.name === "ball+stick");
              return mark ? mark.repr.structureView.atomCount : 0;
            }}"""
        )

    def press(self, slider: str, key: str, times: int = 1) -> None:
        """Press a key on the slider with this label."""
        handle = self.cell.locator(".widget-slider", has_text=slider).locator(".noUi-handle").last
        handle.focus()
        for _ in range(times):
            self.raw.keyboard.press(key)

    def pixels(self):
        """Give what the view shows: ndarray of int, shape (y, x, 3)."""
        import io

        import numpy as np
        from PIL import Image

        picture = self.cell.locator("canvas").last.screenshot()
        return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(int)


@contextmanager
def browser_page(width: int = 1500, height: int = 1200):
    """Open a page in a browser without a window."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=_ARGUMENTS)
        try:
            yield Page(browser.new_page(viewport={"width": width, "height": height}))
        finally:
            browser.close()
