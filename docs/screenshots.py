"""Pictures of a replay's report, light and dark: python docs/screenshots.py report.html [--out docs] [--height 2400]

Needs Chromium or Chrome on the PATH (headless) and Pillow. The page is asked for its light and dark form as a browser
does, by prefers-color-scheme. Pictures have a palette of 128 colours, so that they stay small.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
SCHEMES = {"dark": 0, "light": 1}  # Chromium's names of prefers-color-scheme
WIDTH = 1240


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


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("page", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs"))
    parser.add_argument("--height", type=int, default=2400)
    args = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"screenshots: none of {', '.join(BROWSERS)} is on the PATH", file=sys.stderr)
        return 1
    for scheme in SCHEMES:
        picture = args.out / f"replay-{scheme}.png"
        take(browser, args.page, scheme, args.height, picture)
        print(f"{picture}: {picture.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
