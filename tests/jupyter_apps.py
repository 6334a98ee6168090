"""JupyterLab, Notebook and Voila on loopback, their pages in Chromium and their kernels."""

from __future__ import annotations

import ast
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from socket import create_server
from typing import TYPE_CHECKING, Any, Self
from urllib.error import URLError
from urllib.request import urlopen

import nbformat

import ngff_xarray

if TYPE_CHECKING:
    from jupyter_client.blocking.client import BlockingKernelClient
    from playwright.sync_api import Browser, Page

TOKEN = "loopback"
CHROMIUM = Path("/usr/bin/chromium")
CHROMIUM_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# where kernels find what notebooks of tests import, and the package that is tested: this one,
# whichever the environment has
_IMPORTED = (
    str(Path(__file__).parent),
    str(Path(ngff_xarray.__file__).parents[1]),
    *filter(None, [os.environ.get("PYTHONPATH")]),
)
_LOCAL = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "about:")
# Voila's page links icons there; it does without
_OWN = ("https://cdn.jsdelivr.net/npm/@fortawesome/fontawesome-free@%5E5/css/",)
_IDLE = """() => {
    const widget = window.jupyterapp?.shell.currentWidget;
    return widget?.sessionContext?.session?.kernel?.status === "idle";
}"""
_DONE = """() => {
    const prompts = [...document.querySelectorAll(".jp-Notebook .jp-CodeCell .jp-InputPrompt")];
    return prompts.length > 0 && prompts.every((each) => /\\[\\d+\\]/.test(each.textContent));
}"""

_CELLS = """jupyterapp.shell.currentWidget.content.widgets.filter(
    (cell) => cell.model.type === "code")"""


def write_notebook(path: Path, *cells: str) -> Path:
    """Write a notebook of code cells that opens without asking for a kernel."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = nbformat.v4.new_notebook(metadata={"kernelspec": kernel})
    notebook.cells = [nbformat.v4.new_code_cell(cell) for cell in cells]
    nbformat.write(notebook, path)
    return path


@dataclass(frozen=True)
class _Kind:
    command: Sequence[str]
    status: str  # answers when the server is up
    page: str
    runs: bool  # a page runs its notebook by itself


_LAB = (
    "--LabApp.news_url=None",
    "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
)
_SERVER = ("--ServerApp.open_browser=False", "--allow-root", f"--IdentityProvider.token={TOKEN}")
_KINDS = {
    "lab": _Kind(
        ("jupyterlab", *_SERVER, *_LAB, "--LabApp.expose_app_in_browser=True"),
        f"/api/status?token={TOKEN}",
        f"/lab/tree/{{}}?token={TOKEN}&reset",
        runs=False,
    ),
    "notebook": _Kind(
        ("notebook", *_SERVER, *_LAB, "--JupyterNotebookApp.expose_app_in_browser=True"),
        f"/api/status?token={TOKEN}",
        f"/notebooks/{{}}?token={TOKEN}",
        runs=False,
    ),
    "voila": _Kind(
        ("voila", "--no-browser", "--Voila.ip=127.0.0.1"),
        "/voila/static/",
        "/voila/render/{}",
        True,
    ),
}
APPS = tuple(_KINDS)


def _free_port() -> int:
    with create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


class App:
    """A server of one kind, with no configuration but its own, while its context is entered.

    Parameters
    ----------
    name
        ``"lab"``, ``"notebook"`` or ``"voila"``.
    folder
        An empty folder: the notebooks and everything that the server writes.
    """

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.kind = _KINDS[name]
        self.notebooks = folder / "notebooks"
        self.runtime = folder / "runtime"
        self.log = folder / "server.log"
        self._folders = {
            "JUPYTER_RUNTIME_DIR": self.runtime,
            "JUPYTER_CONFIG_DIR": folder / "config",
            "JUPYTERLAB_SETTINGS_DIR": folder / "settings",
            "JUPYTERLAB_WORKSPACES_DIR": folder / "workspaces",
            "JUPYTER_DATA_DIR": folder / "data",
            "IPYTHONDIR": folder / "ipython",
        }
        for each in (self.notebooks, *self._folders.values()):
            each.mkdir(parents=True)

        # JupyterLab asks every new user whether it may look for news
        quiet = folder / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
        quiet.parent.mkdir(parents=True)
        quiet.write_text('{"fetchNews": "false", "checkForUpdates": false}')

    @staticmethod
    def imports() -> str:
        """The PYTHONPATH of kernels."""
        return os.pathsep.join(_IMPORTED)

    def __enter__(self) -> Self:
        self.port = _free_port()
        root = f"--ServerApp.root_dir={self.notebooks}"
        command = [sys.executable, "-m", *self.kind.command, f"--port={self.port}"]
        if self.name == "voila":
            command += [str(self.notebooks), f"--Voila.connection_dir_root={self.runtime}"]
        else:
            command += [root, "--ip=127.0.0.1"]
        users = {k: v for k, v in os.environ.items() if k != "MPLBACKEND"}  # figures below cells
        environment = {
            **users,
            **{key: str(value) for key, value in self._folders.items()},
            "JUPYTER_PREFER_ENV_PATH": "1",
            "PYTHONPATH": self.imports(),
        }
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            wait_for(self._answers, "a server", seconds=90)
        except TimeoutError as error:
            self.__exit__()
            raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text()}") from error
        return self

    def __exit__(self, *_: object) -> None:
        os.killpg(self._process.pid, signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(20)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended:\n{self.log.read_text()}")
        try:
            with urlopen(f"http://127.0.0.1:{self.port}{self.kind.status}", timeout=5):
                return True
        except URLError as error:
            return getattr(error, "code", 0) in {403, 404}  # it answers
        except OSError:
            return False

    def open(self, page: Page, *cells: str, name: str = "test") -> None:
        """Open a new notebook in a page, and run it."""
        path = write_notebook(self.notebooks / f"{name}.ipynb", *cells)
        self._show(page, path.name)
        if not self.kind.runs:
            self._run(page)
            page.wait_for_function(_DONE)

    def open_file(self, page: Page, source: Path) -> list[list[str]]:
        """Open a copy of a notebook in JupyterLab, run it, and return the kinds of output by cell.

        Those of cells of code, in their order. Cells far away are not on the page.
        """
        path = Path(shutil.copy(source, self.notebooks))
        self._show(page, path.name)
        self._run(page)
        page.wait_for_function("() => window.allCellsRan")  # not when the last has its number
        kinds = """cell => Array.from({length: cell.model.outputs.length},
            (_, i) => cell.model.outputs.get(i).type)"""
        found: list[list[str]] = page.evaluate(f"() => {_CELLS}.map({kinds})")
        return found

    def _show(self, page: Page, name: str) -> None:
        page.goto(f"http://127.0.0.1:{self.port}{self.kind.page.format(name)}")

    @staticmethod
    def _run(page: Page) -> None:
        page.wait_for_selector(".jp-Notebook .jp-CodeCell")
        page.wait_for_function(_IDLE)
        page.evaluate(
            """() => {
                window.allCellsRan = false;
                const run = jupyterapp.commands.execute("notebook:run-all-cells");
                run.then(() => { window.allCellsRan = true; });  // with all that they put out
            }"""
        )

    @contextmanager
    def kernel(self) -> Iterator[Kernel]:
        """The kernel of the page that was opened last, by a connection of our own."""
        from jupyter_client.blocking.client import BlockingKernelClient

        files = sorted(self.runtime.rglob("kernel-*.json"), key=lambda path: path.stat().st_mtime)
        client = BlockingKernelClient(connection_file=str(files[-1]))
        client.load_connection_file()
        client.start_channels()
        try:
            client.wait_for_ready(timeout=60)
            yield Kernel(client)
        finally:
            client.stop_channels()


@dataclass(frozen=True)
class Kernel:
    """A kernel that runs what a test says, beside the page."""

    client: BlockingKernelClient

    def run(self, code: str, *, wait: bool = True) -> None:
        """Run code."""
        message = self.client.execute(code, silent=True)
        if wait:
            self._reply(message)

    def value(self, expression: str) -> Any:
        """The value of an expression, of Python's literals."""
        message = self.client.execute("", silent=True, user_expressions={"value": expression})
        found = self._reply(message)["user_expressions"]["value"]
        assert found["status"] == "ok", found
        return ast.literal_eval(found["data"]["text/plain"])

    def _reply(self, message: str) -> dict[str, Any]:
        while True:
            reply = self.client.get_shell_msg(timeout=60)
            if reply["parent_header"].get("msg_id") == message:
                content = dict(reply["content"])
                assert content["status"] == "ok", "\n".join(content.get("traceback", []))
                return content


@dataclass
class Watch:
    """What a page asked for beyond the loopback, and the errors of our scripts."""

    outside: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def failed(self, stack: str) -> None:
        """Remember an error if it is one of ours."""
        if "blob:" in stack:
            self.errors.append(stack)

    def over(self, page: Page) -> None:
        """Begin to watch a page."""

        def requested(url: str) -> None:
            if not url.startswith((*_LOCAL, *_OWN)):
                self.outside.append(url)

        page.context.on("request", lambda request: requested(request.url))
        # nothing comes from outside, whatever asks for it
        page.context.route(lambda url: not url.startswith(_LOCAL), lambda route: route.abort())
        page.on("websocket", lambda socket: requested(socket.url))
        # widgets' modules are blobs; front-ends have errors of their own
        page.on("pageerror", lambda error: self.failed(error.stack or str(error)))


def new_page(browser: Browser, **options: Any) -> tuple[Page, Watch]:
    """A new page with a session of its own, and what it asks for."""
    context = browser.new_context(**{"viewport": {"width": 1100, "height": 900}, **options})
    context.set_default_timeout(60_000)
    page = context.new_page()
    watch = Watch()
    watch.over(page)
    return page, watch


@contextmanager
def chromium(folder: Path) -> Iterator[Browser]:
    """Headless Chromium of the system, with a profile of its own."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            headless=True,
            args=list(CHROMIUM_FLAGS),
            downloads_path=folder,
        )
        try:
            yield browser
        finally:
            browser.close()


def wait_for(met: Callable[[], object], what: str, *, seconds: float = 20) -> None:
    """Wait until a condition is met.

    Raises
    ------
    TimeoutError
        When it is not met in time.
    """
    end = time.monotonic() + seconds
    while not met():
        if time.monotonic() > end:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(0.05)
