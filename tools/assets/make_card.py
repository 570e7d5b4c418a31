"""Draw the preview image of the book for chats and social networks, `_static/card.png`.

python tools/assets/make_card.py

It shows the logo and the title, as a screenshot from the browser that the tests use.
"""

import base64
import shutil
from pathlib import Path
from urllib.parse import quote

STATIC = Path(__file__).resolve().parents[2] / "_static"
SIZE = {"width": 1200, "height": 630}  # what most of them require

PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ background: #fff; color: #1f2328; font-family: "DejaVu Sans", sans-serif; margin: 0;
  padding: 95px 90px }}
img {{ height: 210px }}
h1 {{ font-size: 76px; font-weight: 500; margin: 50px 0 24px }}
p {{ color: #48566b; font-size: 33px; margin: 0 }}
</style><img src="data:image/svg+xml;base64,{logo}">
<h1>CNNs, paper by paper</h1><p>Convolutional networks, built and measured on the page</p>"""


def main() -> None:
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or shutil.which("google-chrome")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu"):
        options.add_argument(argument)
    logo = base64.b64encode((STATIC / "logo.svg").read_bytes()).decode()
    browser = webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        metrics = SIZE | {"deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get("data:text/html;charset=utf-8," + quote(PAGE.format(logo=logo)))
        picture = browser.get_screenshot_as_png()
    finally:
        browser.quit()
    part = STATIC / "card.part"
    part.write_bytes(picture)
    part.replace(STATIC / "card.png")


if __name__ == "__main__":
    main()
