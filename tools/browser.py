"""JupyterLab in headless Chromium, for the browser tests and the slider benchmark."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request

from playwright.sync_api import sync_playwright

CHROMIUM = ["chromium", "chromium-browser", "google-chrome"]
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
FLAGS += ["--disable-checker-imaging"]  # a frame waits for the pictures in it, so that its time is theirs


@contextlib.contextmanager
def jupyterlab(folder):
    """A JupyterLab server over `folder`; gives its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--no-browser",
        "--allow-root",
        f"--port={port}",
        "--ServerApp.port_retries=0",
    ]
    command += ["--IdentityProvider.token=", "--ServerApp.password=", "--LabApp.expose_app_in_browser=True"]
    settings = {"JUPYTERLAB_SETTINGS_DIR": str(folder / ".lab-settings"), "JUPYTER_CONFIG_DIR": str(folder / ".config")}
    news = folder / ".lab-settings" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    log = (folder / "jupyterlab.log").open("w")
    server = subprocess.Popen(command, cwd=folder, stdout=log, stderr=log, env={**os.environ, **settings})
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{address}/api").read()
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(
                        f"JupyterLab did not start:\n{(folder / 'jupyterlab.log').read_text()}"
                    ) from None
                time.sleep(0.2)
        yield address
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:  # its kernels notice and end by themselves
            server.kill()
            server.wait()
        log.close()


@contextlib.contextmanager
def chromium(width=1500, height=1000):
    """A page of headless Chromium. With it ends the kernel of the notebook that is open in it."""
    binary = next((path for name in CHROMIUM if (path := shutil.which(name))), None)
    if binary is None:
        raise RuntimeError("no Chromium found: run tools/install_browser.sh")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=binary, args=FLAGS)
        page = browser.new_page(viewport={"width": width, "height": height})
        try:
            yield page
        finally:
            with contextlib.suppress(Exception):
                shut_down(page)
            browser.close()


def shut_down(page):
    """End the kernel of the notebook that is open, which else goes on drawing ahead."""
    page.evaluate("() => window.jupyterapp?.shell.currentWidget?.sessionContext?.shutdown()")


class Notebook:
    """A notebook open in JupyterLab."""

    def __init__(self, page, address, name):
        self.page = page
        shut_down(page)
        page.goto(f"{address}/lab/tree/{name}?reset")
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        page.wait_for_function("window.jupyterapp && document.querySelector('.jp-Notebook-ExecutionIndicator')")
        page.wait_for_function("window.jupyterapp.shell.currentWidget?.sessionContext?.isReady", timeout=60_000)
        self.command("application:toggle-left-area")
        self.wait_idle()

    def command(self, name):
        self.page.evaluate("name => window.jupyterapp.commands.execute(name)", name)

    def wait_idle(self, seconds=120):
        self.page.wait_for_function(
            "document.querySelector('.jp-Notebook-ExecutionIndicator')?.dataset.status === 'idle'",
            timeout=seconds * 1000,
        )

    def run_all(self, seconds=180):
        """Run every cell and wait for the last; gives the seconds it took."""
        start = time.monotonic()
        self.page.evaluate(
            """() => { window.done = false;
                window.jupyterapp.commands.execute('notebook:run-all-cells').finally(() => { window.done = true }) }"""
        )
        self.page.wait_for_function("window.done", timeout=seconds * 1000)
        self.wait_idle(seconds)
        self.page.wait_for_timeout(1000)
        return time.monotonic() - start

    def run(self, index, wait=True):
        """Run one cell; gives the milliseconds that it took."""
        return self.page.evaluate(
            """async ([index, wait]) => { const notebook = jupyterapp.shell.currentWidget.content;
                notebook.activeCellIndex = index < 0 ? notebook.widgets.length + index : index; notebook.deselectAll();
                const start = performance.now(), done = jupyterapp.commands.execute('notebook:run-cell');
                if (wait) await done; return performance.now() - start }""",
            [index, wait],
        )

    def output(self, index):
        """What stands below a cell."""
        return self.page.evaluate(
            """index => { const cells = jupyterapp.shell.currentWidget.content.widgets;
                return cells.at(index).outputArea.node.innerText }""",
            index,
        )

    def errors(self):
        """Texts of all error outputs."""
        return self.page.eval_on_selector_all(
            ".jp-RenderedText[data-mime-type='application/vnd.jupyter.error'], .jp-OutputArea-output.jp-mod-error",
            "nodes => nodes.map(node => node.innerText)",
        )

    def explorers(self):
        """Locator of the live explorers."""
        return self.page.locator(".nc-explorer")

    def screenshot(self, path, of=None):
        (of or self.page).screenshot(path=path)


def pixels(explorer):
    """What tells one picture from another: the bytes behind the one that an explorer shows."""
    return explorer.evaluate(
        """async box => {
            const shown = image => image.checkVisibility({visibilityProperty: true}) && /^(data:image.png|blob:)/.test(image.src);
            const image = [...box.querySelectorAll('img')].filter(shown).at(-1);
            const data = await (await fetch(image.src)).arrayBuffer();
            const hash = await crypto.subtle.digest('SHA-1', data);
            return Array.from(new Uint8Array(hash)).join() }"""
    )


def room(handle):
    """The arrow key that leads a slider's handle away from its nearer end, and the one that leads back."""
    low, high, now = (float(handle.get_attribute(f"aria-value{name}")) for name in ("min", "max", "now"))
    return ("ArrowLeft", "ArrowRight") if now > (low + high) / 2 else ("ArrowRight", "ArrowLeft")
