"""The built book, served on loopback, and a browser that can reach nothing else."""

import functools
import http.server
import shutil
import threading
from pathlib import Path

import pytest

HTML = Path(__file__).parents[2] / "_build" / "html"


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="session")
def site():
    assert (HTML / "index.html").is_file(), "the book is not built: run `make book`"
    handler = functools.partial(Quiet, directory=HTML)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def start_browser(preferences):
    selenium = pytest.importorskip("selenium.webdriver")
    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if not (binary and driver):
        pytest.skip("no Chromium with ChromeDriver on this machine")
    options = selenium.ChromeOptions()
    options.binary_location = binary
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    ):
        options.add_argument(argument)
    options.add_experimental_option("prefs", preferences)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return selenium.Chrome(options=options, service=selenium.ChromeService(driver))


@pytest.fixture(scope="session")
def browser():
    chrome = start_browser({})
    yield chrome
    chrome.quit()


@pytest.fixture(scope="session")
def browser_without_scripts():
    """A browser whose reader has switched JavaScript off."""
    block = 2
    chrome = start_browser({"profile.managed_default_content_settings.javascript": block})
    yield chrome
    chrome.quit()
