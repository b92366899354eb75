"""Opens an HTML report in headless Chromium, light and dark: no console message, no request, and a picture of each.

python .ci/browser.py REPORT.html FOLDER     writes FOLDER/report-light.png and report-dark.png; status 1 if anything is wrong

A page that says something on its console and asks for a picture is opened first: what does not see that would see nothing.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

_LIMIT = 200_000

#: Hosts that Chromium itself looks for, whatever is opened (updates, the time, its account).
_BROWSERS_OWN = {"update.googleapis.com", "clients2.google.com", "accounts.google.com"}

_BAD = '<!doctype html><script>console.error("seen")</script><img src="http://host.invalid/picture.png">'

_SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
    "--enable-logging=stderr",
    "--window-size=1200,1800",
)


def problems(report: Path, picture: Path, *, dark: bool) -> list[str]:
    """Open the report, write the picture, and return what is wrong."""
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        return ["there is no Chromium on this machine (Debian: apt-get install chromium)"]
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder, "net.json")
        command = [
            browser,
            *_SWITCHES,
            f"--user-data-dir={folder}/profile",
            f"--log-net-log={log}",
            *(["--blink-settings=preferredColorScheme=0"] if dark else ["--blink-settings=preferredColorScheme=1"]),
            f"--screenshot={picture}",
            report.as_uri(),
        ]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        found = [] if picture.exists() else [f"no picture was made (status {ran.returncode}): {ran.stderr[-300:]}"]
        # What a page says on its console stands there as "INFO:CONSOLE".
        found += [line for line in ran.stderr.splitlines() if "CONSOLE" in line]
        found += [f"asked for {url}" for url in _asked(log)]
    return found


def blind(folder: Path) -> list[str]:
    """Return what is not seen of a page that does what a report must not."""
    page = folder / "bad.html"
    page.write_text(_BAD, encoding="utf-8")
    seen = "\n".join(problems(page, folder / "bad.png", dark=False))
    return [
        f"the check itself does not see {what}" for what in ("CONSOLE", "http://host.invalid/picture.png") if what not in seen
    ]


def _asked(log: Path) -> set[str]:
    """Return the addresses that were asked for over the network by anything in the page."""
    text = log.read_text(encoding="utf-8").rstrip().rstrip(",")
    try:
        document = json.loads(text)
    except ValueError:  # cut off when the browser ended
        document = json.loads(text + "]}")
    urls = {str(event.get("params", {}).get("url", "")) for event in document["events"]}
    return {url for url in urls if url.startswith(("http", "ws")) and urlsplit(url).hostname not in _BROWSERS_OWN}


def main() -> int:
    """Look at the report in both colour schemes."""
    if len(sys.argv) != 3:  # noqa: PLR2004 - the two arguments
        print(__doc__)
        return 2
    report, folder = Path(sys.argv[1]).resolve(), Path(sys.argv[2]).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    size = report.stat().st_size
    found = [] if size < _LIMIT else [f"{size} bytes, more than {_LIMIT}"]
    with tempfile.TemporaryDirectory() as temporary:
        found += blind(Path(temporary))
    for dark in (False, True):
        found += problems(report, folder / f"report-{'dark' if dark else 'light'}.png", dark=dark)
    print("\n".join(found) or f"{report.name}: {size} bytes, no console message, no request, in light and dark")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
