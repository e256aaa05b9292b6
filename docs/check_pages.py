"""Look at the built pages in a real browser: formulas set, code whole, no page too wide.

``python docs/check_pages.py docs/_build/html`` opens every page in a headless Chromium at two
widths, without a network, and fails if formulas are not set, if a line of code is cut in the wider
window, if a page can be scrolled sideways, if something that a page asks for is not there, or if
the search does not find the recipe for what people look for. ``--pictures DIR`` also writes a
picture of each page that is named (by default of some) at both widths. Without a browser it says
so and exits with 0. The build of the pages does not need it.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import ClassVar

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
WIDTHS = (1280, 400)
SHOWN = (
    "index",
    "guide",
    "quickstart",
    "how_to_choose",
    "paper_map",
    "auto_examples/index",
    "theory/refinement",
    "benchmarks/recovery",
    "api",
    "generated/gloree.estimators.SpectralRNNRegressor",
)
WORDS = ("pandas", "pipeline", "cross-validation", "forecast", "prediction interval", "ONNX")
RECIPES = "how_to.html"  # the page that the search has to find for each of them
SECONDS = 900  # for all pages; a browser that hangs is ended then

HARNESS = """<!doctype html><meta charset="utf-8"><body style="margin:0"><script>
const pages = %(pages)s, widths = %(widths)s, words = %(words)s;
const wait = ms => new Promise(done => setTimeout(done, ms));
async function look(page, width) {
  const frame = document.createElement("iframe");
  frame.style = `width:${width}px;height:1000px;border:0`;
  frame.src = "/" + page;
  document.body.append(frame);
  await new Promise(done => { frame.onload = done; });
  const inside = frame.contentDocument, view = frame.contentWindow;
  const formulas = inside.querySelectorAll("span.math, div.math").length;
  if (formulas) {
    for (let i = 0; i < 300 && !view.MathJax?.startup?.promise; i++) await wait(20);
    await Promise.race([view.MathJax?.startup?.promise, wait(20000)]);
  }
  const edge = view.innerWidth + 1, cut = [];
  for (const each of inside.querySelectorAll("main :is(h1, h2, h3, h4, p, dt, img)")) {
    if (each.closest("pre, .math, .pst-scrollable-table-container, table")) continue;
    const box = each.getBoundingClientRect();
    if (box.width && (box.right > edge || each.scrollWidth > each.clientWidth + 1))
      cut.push(`${each.tagName.toLowerCase()} "${each.textContent.slice(0, 40)}"`);
  }
  for (const each of width > 1000 ? inside.querySelectorAll("main .highlight pre") : []) {
    if (each.scrollWidth > each.clientWidth + 1)
      cut.push(`code "${each.textContent.slice(0, 40)}"`);
  }
  const found = {
    page, width, formulas,
    set: inside.querySelectorAll("mjx-container").length,
    errors: [...inside.querySelectorAll("mjx-merror")].map(each => each.title),
    wide: inside.documentElement.scrollWidth > edge,
    cut: cut.slice(0, 3),
  };
  frame.remove();
  return found;
}
async function search(word) {
  const frame = document.createElement("iframe");
  frame.src = "/search.html?q=" + encodeURIComponent(word);
  document.body.append(frame);
  let links = [];
  for (let i = 0; i < 300 && !links.some(link => link.includes("%(recipes)s")); i++) {
    await wait(50);
    const found = frame.contentDocument.querySelectorAll("#search-results li a");
    links = [...found].map(link => link.href);
  }
  frame.remove();
  const fails = !links.some(link => link.includes("%(recipes)s"));
  const failed = `the search for "${word}" finds ${links.length} pages, and not %(recipes)s`;
  return {page: "search.html", width: 0, ...(fails ? {failed} : {set: 0, formulas: 0})};
}
const report = found => fetch("/__found__", {method: "POST", body: JSON.stringify(found)});
const jobs = pages.flatMap(page => widths.map(width => [page, width]));
async function worker() {
  for (let job = jobs.shift(); job; job = jobs.shift()) {
    const [page, width] = job;
    try { await report(await look(page, width)); }
    catch (error) { await report({page, width, failed: String(error)}); }
  }
}
(async () => {
  await Promise.all([worker(), worker(), worker(), worker()]);
  for (const word of words) await report(await search(word));
  await fetch("/__found__", {method: "POST", body: "null"});
})();
</script>"""

FRAME = """<!doctype html><body style="margin:0">
<iframe src="/%s" style="width:%dpx;height:%dpx;border:0"></iframe>"""


class Pages(http.server.SimpleHTTPRequestHandler):
    """The folder of pages, the page that looks at them, and what it finds."""

    harness = ""
    found: ClassVar[list[dict[str, object]]] = []
    missing: ClassVar[set[str]] = set()
    done = threading.Event()

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        if path == "/__look__":
            self._send(self.harness)
        elif path == "/__frame__":
            page, width, height = query.split(",")
            self._send(FRAME % (page, int(width), int(height)))
        else:
            super().do_GET()

    def do_POST(self) -> None:
        found = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self._send("")
        if found is None:
            self.done.set()
        else:
            self.found.append(found)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        if not self.path.endswith("favicon.ico"):
            self.missing.add(self.path)
        super().send_error(code, message, explain)

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _send(self, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def command(browser: str, folder: str, *words: str) -> list[str]:
    """Run a browser without a window and without a network."""
    return [
        browser,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        f"--user-data-dir={folder}",
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
        *words,
    ]


def faults(found: dict[str, object]) -> list[str]:
    """What is wrong with a page, in words."""
    if "failed" in found:
        return [str(found["failed"])]
    wrong = []
    if found["set"] < found["formulas"]:  # type: ignore[operator]
        wrong.append(f"{found['set']} of {found['formulas']} formulas are set")
    wrong += [f"formula: {error}" for error in found.get("errors", ())]  # type: ignore[attr-defined]
    if found.get("wide"):
        wrong.append("the page is wider than the window")
    wrong += [f"cut: {what}" for what in found.get("cut", ())]  # type: ignore[attr-defined]
    return wrong


def main() -> int:
    """Look at all pages, and give the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("html", type=Path, help="folder of the built pages")
    parser.add_argument("--pictures", type=Path, help="folder for pictures of some pages")
    parser.add_argument("--only", nargs="+", help="pages, such as paper_map, instead of all")
    parser.add_argument("--height", type=int, default=2400, help="of a picture, in pixels")
    args = parser.parse_args()
    browser = next((path for path in map(shutil.which, BROWSERS) if path), None)
    if browser is None:
        print(f"no browser ({', '.join(BROWSERS)}): the pages were not looked at")
        return 0
    pages = sorted(str(path.relative_to(args.html)) for path in args.html.rglob("*.html"))
    pages = [page for page in pages if not page.startswith("_static")]
    if args.only:
        pages = [f"{page}.html" for page in args.only]
    Pages.harness = HARNESS % {
        "pages": json.dumps(pages),
        "widths": json.dumps(WIDTHS),
        "words": json.dumps([] if args.only else WORDS),
        "recipes": RECIPES,
    }
    handler = functools.partial(Pages, directory=str(args.html))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    at = f"http://127.0.0.1:{server.server_port}"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        look = command(browser, folder, "--remote-debugging-port=0", f"{at}/__look__")
        with subprocess.Popen(look, stderr=subprocess.DEVNULL) as running:
            finished = Pages.done.wait(SECONDS)
            running.terminate()
        if args.pictures:
            args.pictures.mkdir(parents=True, exist_ok=True)
            for page in args.only or SHOWN:
                for width in WIDTHS:
                    file = args.pictures / f"{page.replace('/', '_')}_{width}.png"
                    words = (
                        f"--screenshot={file}",
                        f"--window-size={max(width, 500)},{args.height}",
                        "--virtual-time-budget=20000",
                        f"{at}/__frame__?{page}.html,{width},{args.height}",
                    )
                    subprocess.run(
                        command(browser, folder, *words),
                        stderr=subprocess.DEVNULL,
                        timeout=120,
                        check=True,
                    )
    server.shutdown()
    wrong = [(each, fault) for each in Pages.found for fault in faults(each)]
    for each, fault in wrong:
        print(f"{each['page']} at {each['width']} px: {fault}")
    for path in sorted(Pages.missing):
        print(f"not there: {path}")
    if not finished:
        print(f"stopped after {SECONDS} s")
    formulas = sum(int(each.get("formulas", 0)) for each in Pages.found) // len(WIDTHS)  # type: ignore[call-overload]
    print(f"{len(pages)} pages with {formulas} formulas, {len(wrong)} faults")
    return int(bool(wrong or Pages.missing or not finished))


if __name__ == "__main__":
    sys.exit(main())
