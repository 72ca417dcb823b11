"""The page of a report with many rows in Chromium: how long it takes to make, open, sort, filter.

    python bench/report.py runs.sqlite [--rows 10000] [--out out/report]

Rows are those of a real store (`corgi batch`), again and again with other names and radii scaled at random
(seeded), in a second run some of them once more. Needs playwright and a browser. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from corgi.batch.store import Answer, Item, Row, Store
from corgi.cli.browser import find_browser
from corgi.reporting.wording import round_down

OPENED = 5
"""Times the page is opened, each in a new tab; the median counts."""


def main() -> None:
    """Make the store, its report, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store", type=Path, help="what corgi batch wrote")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--out", type=Path, default=Path("out/report"))
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    large = arguments.out / "large.sqlite"
    if not large.exists():
        multiply(arguments.store, large, arguments.rows)
    started = time.perf_counter()
    command = [sys.executable, "-m", "corgi", "report", str(large), "--html", str(arguments.out)]
    subprocess.run(command, check=True)
    made = time.perf_counter() - started
    page = arguments.out / "index.html"
    print("| what | measured |\n|---|---|")
    print(f"| `corgi report` | {made:.1f} s |")
    print(f"| index.html, report.json | {size(page)}, {size(arguments.out / 'report.json')} |")
    for what, found in measure(page).items():
        print(f"| {what} | {found} |")


def multiply(source: Path, target: Path, count: int) -> None:
    """A store of `count` rows from those of another: a sixth of them looser, in a second run."""
    with Store(source) as old, Store(target, create=True) as new:
        kept = [(row, old.pictures(row.id)) for row in old.rows() if row.answer.document is not None]
        first = old.settings()[0]
        call = old.runs()[0]
        for number, share in enumerate((5 * count // 6, count - 5 * count // 6)):
            parameters = first.parameters | {"seed": number}
            setting = new.setting(first.model_sha256, first.model, parameters, first.code)
            run = new.begin_run(setting, call.command, call.workers, call.threads, call.versions)
            for i in range(share):
                chance = random.Random(i)
                row, pictures = chance.choice(kept)
                name = f"images/{i:05d}.ppm"
                item = Item(hashlib.sha256(name.encode()).hexdigest(), name, row.item.true_class)
                answer = scaled(row, name, 0.95**number, chance)
                new.record(run, item, row.started, answer, pictures)
            new.end_run(run)


def scaled(row: Row, name: str, tightness: float, chance: random.Random) -> Answer:
    """The answer of a row under another name, radii times a random number; one in fifty without any."""
    document = json.loads(row.answer.document or "")
    factor, apart = chance.lognormvariate(0, 0.7), 1 + chance.expovariate(30)
    certified = document["certified_radius"] * factor
    attacked = None if document["attack_radius"] is None else certified * max(apart, 1.001)
    certified *= tightness
    if certified == 0 or chance.random() < 0.02:
        document |= {"status": "unknown", "reason": "no bound at any radius tried", "guarantee": None}
        document |= {"recheck": None, "ratio": None}
        certified = 0.0
    else:
        document["guarantee"] = document["guarantee"].replace(
            round_down(document["certified_radius"]), round_down(certified)
        )
        document["ratio"] = None if attacked is None else attacked / certified
    document |= {"image": name, "certified_radius": certified, "certified_radius_255": certified * 255}
    document["label"] = None
    document["attack_radius"] = attacked
    document["seconds"] *= factor
    if attacked is not None:
        document["attack"]["witness"]["radius"] = attacked
    text = json.dumps(document, separators=(",", ":"))
    return Answer(document["status"], document["reason"], text)


def measure(page: Path) -> dict[str, str]:
    """Medians in Chromium: until rows can be seen, and until each action is on the screen."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_browser(), args=["--no-sandbox"])
        opened = []
        for _ in range(OPENED):
            tab = browser.new_page()
            started = time.perf_counter()
            tab.goto(page.resolve().as_uri())
            tab.locator("#rows tbody tr").first.wait_for(state="visible")
            tab.evaluate(PAINTED)
            opened.append(time.perf_counter() - started)
            if len(opened) < OPENED:
                tab.close()
        column = (
            "[...document.querySelectorAll('#rows th button')].find((b) => b.textContent.startsWith('%s'))"
        )
        actions = {
            "sort by certified radius": f"{column % 'Certified'}.click()",
            "sort by image": f"{column % 'Image'}.click()",
            "filter by text": "text.value = '7 class'; text.dispatchEvent(new Event('input', {bubbles: 1}))",
            "all again": "document.querySelector('#filters [type=reset]').click()",
            "next page": "next.click()",
            "open a card": "document.querySelector('#rows .name').click()",
        }
        found = {"opened, rows on the screen": f"{statistics.median(opened):.2f} s"}
        for name, action in actions.items():
            found[name] = f"{timed(tab, action):.0f} ms"
        browser.close()
    return found


PAINTED = "new Promise((done) => requestAnimationFrame(() => setTimeout(done)))"
"""Settles when what was drawn last is on the screen."""


def timed(tab: Page, action: str) -> float:
    """Milliseconds from an action of the page until its effect is on the screen."""
    element = "const [text, next] = ['text', 'next'].map((id) => document.getElementById(id));"
    card = "while (/card/.test(what) && !document.getElementById('card').open) await painted();"
    script = f"""async (what) => {{
        const painted = () => {PAINTED};
        {element}
        const started = performance.now();
        {action};
        await painted();
        {card}
        return performance.now() - started;
    }}"""
    return float(tab.evaluate(script, "card" if ".name" in action else ""))


def size(path: Path) -> str:
    """Of a file, in megabytes."""
    return f"{path.stat().st_size / 1e6:.1f} MB"


if __name__ == "__main__":
    main()
