"""Pictures for the documentation, in docs/ or where --out says:

    python docs/screenshots.py report.html [--height 2400]     a replay's report, light and dark
    python docs/screenshots.py webcam [--bundle DIR]           the page of `spinn webcam`: dark, light, on a phone

Needs Chromium or Chrome on the PATH (headless) and Pillow, the second one Playwright for Python, too. Pages are asked
for their light and dark form as a browser does, by prefers-color-scheme. Pictures have a palette of 128 colours, or
256 with a photograph, so that they stay small.
"""

from __future__ import annotations

import argparse
import io
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SCHEMES = {"dark": 0, "light": 1}  # Chromium's names of prefers-color-scheme
WIDTH = 1240
WEBCAM = {"dark": (1280, 1200, "dark"), "light": (1280, 1200, "light"), "phone": (390, 844, "dark")}
SURE = """() => {
  const ours = document.querySelector("[data-lane=ours]");
  const sure = parseInt(ours.querySelector("[data-part=confidence]").textContent) >= 70;
  const known = /espresso|cat|tabby/.test(ours.querySelector("[data-part=label]").textContent);
  const all = [...document.querySelectorAll("[data-lane]")].every((lane) => /device|server/.test(lane.dataset.kind));
  return sure && known && all;
}"""


def take(browser: str, page: Path, scheme: str, height: int, picture: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder, "page.png")
        subprocess.run(
            [browser, "--headless", "--no-sandbox", "--hide-scrollbars", "--virtual-time-budget=30000",
             f"--user-data-dir={folder}/profile", f"--blink-settings=preferredColorScheme={SCHEMES[scheme]}",
             f"--window-size={WIDTH},{height}", f"--screenshot={raw}", page.absolute().as_uri()],
            check=True, timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        Image.open(raw).convert("RGB").quantize(128).save(picture, optimize=True)


def take_webcam(browser: str, out: Path, *options: str) -> None:
    """The page a minute after its start, on a device that is slowed down 8 times, at a moment when it is confident and
    the two lanes beside it have answers. Waits for such a moment for up to three minutes."""
    from playwright.sync_api import sync_playwright

    given = ["--source", "demo", "--port", "0", "--device-slowdown", "8", "--deadline-ms", "200", "--compare", *options]
    demo = subprocess.Popen(
        [sys.executable, "-m", "spinn_stream", "webcam", *given], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        text=True,
    )  # fmt: skip
    try:
        assert demo.stdout is not None
        address = demo.stdout.readline().split()[1]
        with sync_playwright() as driver:
            chromium = driver.chromium.launch(executable_path=shutil.which(browser), args=["--no-sandbox"])
            for name, (width, height, scheme) in WEBCAM.items():
                page = chromium.new_page(
                    viewport={"width": width, "height": height}, color_scheme=scheme, device_scale_factor=1
                )
                page.goto(address)
                page.wait_for_selector(".chip.good >> text=server: connected", timeout=180_000)
                page.wait_for_timeout(60_000 if name == "dark" else 3_000)  # the first one fills the charts
                raw = b""
                until = time.monotonic() + 180
                while not raw or not page.evaluate(SURE):  # all the while that the picture took
                    page.wait_for_function(SURE, timeout=1000 * max(1.0, until - time.monotonic()))
                    raw = page.screenshot()
                picture = Image.open(io.BytesIO(raw)).convert("RGB").quantize(256)
                picture.save(out / f"webcam-{name}.png", optimize=True)
                page.close()
            chromium.close()
    finally:
        demo.terminate()
        demo.wait(20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--height", type=int, default=2400)
    parser.add_argument("--bundle", help="folder of the bundle")
    args = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"screenshots: none of {', '.join(BROWSERS)} is on the PATH", file=sys.stderr)
        return 1
    if args.page == Path("webcam"):
        take_webcam(browser, args.out, *(["--bundle", args.bundle] if args.bundle is not None else []))
        return 0
    for scheme in SCHEMES:
        picture = args.out / f"replay-{scheme}.png"
        take(browser, args.page, scheme, args.height, picture)
        print(f"{picture}: {picture.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
