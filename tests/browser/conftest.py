"""Pages in Debian's Chromium, over a console whose parts are made up."""

import shutil
import threading

import pytest
from werkzeug.serving import make_server

CHROMIUM = shutil.which("chromium")

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")


@pytest.fixture(scope="session")
def chromium():
    if CHROMIUM is None:
        pytest.skip("there is no chromium here: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM)
        yield browser
        browser.close()


@pytest.fixture
def serve():
    """Serves an application on a free port of loopback, and gives its address."""
    servers = []

    def start(app):
        server = make_server("127.0.0.1", 0, app, threaded=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


class Tab:
    """A page, and what it said and asked for."""

    def __init__(self, context, address):
        self.page = context.new_page()
        self.address = address
        self.said = []
        self.foreign = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", self._asked)

    def _asked(self, request):
        if not request.url.startswith((self.address, "data:")):
            self.foreign.append(request.url)

    def open(self, path):
        self.page.goto(self.address + path)
        self.page.wait_for_load_state("networkidle")
        return self.page


@pytest.fixture
def tab(chromium):
    """Opens a tab on an address; at the end it must have said nothing, and asked nobody else."""
    contexts, tabs = [], []

    def open_(address, scheme="light", width=1280):
        context = chromium.new_context(color_scheme=scheme, viewport={"width": width, "height": 900})
        contexts.append(context)
        tabs.append(Tab(context, address))
        return tabs[-1]

    yield open_
    for context in contexts:
        context.close()
    assert [(each.said, each.foreign) for each in tabs] == [([], [])] * len(tabs)
