"""The page in a real browser: quiet, alone, usable by all, and deaf to hostile texts."""

from __future__ import annotations

import base64
import dataclasses
import gzip
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from reports.figures.picture import Picture
from reports.provenance import provenance
from reports.record import Metric, Record
from reports.render import write_report
from reports.render.csv_files import render_csv
from reports.render.html import render_html
from reports.render.latex import render_latex
from reports.render.markdown import markdown_table
from reports.report import Counts, Report, build_report
from reports.results import Labels, PlanFile, PlannedStage, StageRun, read_plan
from reports.statistics.intervals import Estimate
from reports.tables.cells import DASH, PROBABILITY, Absent, Column, Number, Style, Table, Text
from tests.reports.browser import Opened, chromium, opened
from tests.reports.hostile import SURROGATES, hostile_texts
from tests.reports.large_store import fill_large
from tests.reports.synthetic_store import SyntheticStore, accuracy, fill

MEGABYTES = 2
PRINTED = 1032
"""Pixels across a landscape A4 page between its margins."""
FULL = "#t1"
"""The section of the synthetic store's first table."""


def written(root: Path, plan: Path) -> tuple[Report, Path]:
    """A report and its page, where a run puts it."""
    report = build_report(root, read_plan(plan))
    (page,) = write_report(report, root / "reports" / "suite", ["html"])
    return report, page


@pytest.fixture(scope="module")
def browser():
    """One browser for all tests of this file."""
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """Two models, three tasks, a failed stage, and a log of one stage."""
    store = SyntheticStore(tmp_path_factory.mktemp("small"))
    plan = fill(store)
    log = store.root / "attempts" / str(store.stages[0]["digest"]) / "1.log"
    log.parent.mkdir(parents=True)
    log.write_text("it went well\n")
    return written(store.root, plan)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Path]:
    """Five hundred cases."""
    store = SyntheticStore(tmp_path_factory.mktemp("large"), suite="paper/large", profile="full")
    plan = fill_large(store, models=2, tasks=5, compressions=5, tunings=2, seeds=5)
    return written(store.root, plan)


@pytest.fixture
def page(browser, small: tuple[Report, Path]):
    """The small report, opened."""
    with opened(browser, small[1]) as found:
        yield found.page


def column(page, section: str, name: str) -> list[str]:
    """The texts of a column of a section's first table, as they are shown."""
    return page.evaluate(
        """([section, name]) => {
            const table = document.querySelector(`${section} table`);
            const names = [...table.tHead.rows[0].cells].map((th) =>
                th.querySelector(".name").textContent);
            return [...table.tBodies[0].rows].filter((row) => !row.hidden)
                .map((row) => row.cells[names.indexOf(name)].textContent.trim());
        }""",
        [section, name],
    )


def check_quiet(found: Opened) -> None:
    """No word on the console, no request but for the file itself."""
    assert found.errors == []
    assert found.foreign == []
    assert found.address in found.requests


def first_paint(page) -> float:
    """Milliseconds until something was to be seen."""
    return page.evaluate(
        """() => new Promise((done) => {
            const seen = () => performance.getEntriesByName("first-contentful-paint")[0];
            const look = () => (seen() ? done(seen().startTime) : setTimeout(look, 20));
            look();
        })"""
    )


def test_the_page_is_quiet_and_alone(browser, small: tuple[Report, Path]):
    """Opened from its file it says nothing on the console and asks for nothing."""
    with opened(browser, small[1]) as found:
        found.page.click(f"{FULL} td a")
        check_quiet(found)


@pytest.mark.slow
def test_five_hundred_cases_make_a_light_page(browser, large: tuple[Report, Path]):
    """At most 2 MB; quiet and alone; something to be seen soon."""
    size = large[1].stat().st_size
    with opened(browser, large[1]) as found:
        milliseconds = first_paint(found.page)
        check_quiet(found)
        rows = found.page.locator("#sources tbody tr").count()
    print(f"{size / 1e6:.2f} MB, {rows} rows of stages, first paint {milliseconds:.0f} ms")  # noqa: T201
    assert size <= MEGABYTES * 1e6
    assert milliseconds < 5000


def test_only_its_own_script_and_style_may_run(small: tuple[Report, Path]):
    """The policy names one script and one style by their hashes and nothing else."""
    text = small[1].read_text(encoding="utf-8")
    found = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
    assert found
    policy = dict(part.strip().split(" ", 1) for part in found[1].split(";"))
    for name in ("script", "style"):
        (inside,) = re.findall(rf"<{name}>(.*?)</{name}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert policy.pop(f"{name}-src") == f"'sha256-{digest}'"
    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not [name for _, names in Structure(text).elements for name in names if name[:2] == "on"]


def test_a_column_sorts_by_value_with_what_is_absent_last(page):
    """Up, then down; 51.04 comes before 165.22, and a dash is no number."""
    button = page.locator(f"{FULL} th button", has_text="emulator zero-shot")
    ascending = ["95.61", "95.61", "165.22", DASH]
    button.click()
    assert column(page, FULL, "emulator zero-shot") == ascending
    assert page.locator(f"{FULL} th[aria-sort=ascending]").count() == 1
    button.click()
    assert column(page, FULL, "emulator zero-shot") == ["165.22", "95.61", "95.61", DASH]
    assert page.locator(f"{FULL} th[aria-sort=descending]").count() == 1
    page.locator(f"{FULL} th button", has_text="peak memory").click()
    assert page.locator(f"{FULL} th[aria-sort]").count() == 1
    assert column(page, FULL, "peak memory")[-1].startswith("1,000")


def test_less_than_a_thousandth_is_a_number(browser, tmp_path: Path):
    """The surest differences come first, not after those that are not known."""
    store = SyntheticStore(tmp_path)
    report = build_report(tmp_path, read_plan(fill(store)))
    shown = [
        Number(estimate=Estimate(mean=mean, half_width=None, n=1), style=PROBABILITY)
        for mean in (0.04, 0.0, 0.2)
    ]
    cells = (*shown, Absent(word="not known"))
    names = Column(header="row", cells=tuple(Text(text=name) for name in "abcd"), kind="label")
    table = dataclasses.replace(
        report.tables[0], columns=(names, Column(header="p", cells=cells)), footnotes=()
    )
    (path,) = write_report(
        dataclasses.replace(report, tables=(table,)), tmp_path / "page", ["html"]
    )
    with opened(browser, path) as found:
        found.page.locator(f"{FULL} th button", has_text="p").click()
        assert column(found.page, FULL, "p") == [
            "< 0.001",
            "0.040",
            "0.200",
            "not known",
        ]


def test_names_sort_as_a_reader_would(page):
    """A column of labels sorts too, the dash of the whole model last."""
    page.locator(f"{FULL} th button", has_text="layout").click()
    assert column(page, FULL, "layout") == ["2-2-2", "2-4-2", "2-4-2", DASH]


def test_rows_are_filtered_by_label_and_by_text(page):
    """Model, task, compression and tuning choose rows; a section without rows is not shown."""
    page.get_by_label("tuning", exact=True).select_option("lora(rank=4)")
    assert column(page, FULL, "compression") == ["layer_drop(keep=4)"]
    assert page.locator("#t3").is_hidden()
    page.get_by_label("tuning", exact=True).select_option("")
    page.get_by_label("model", exact=True).select_option("tiny-vit")
    assert page.locator(FULL).is_hidden()
    assert page.locator(f"nav a[href='{FULL}']").is_hidden()
    assert page.locator("#t3").is_visible()
    page.get_by_label("model", exact=True).select_option("")
    page.get_by_label("text in row").fill("KEEP=2")
    assert column(page, FULL, "compression") == ["layer_drop(keep=2)"]
    assert re.fullmatch(r"\d+ of \d+ rows shown", page.locator("#controls p").inner_text())


def test_another_metric_takes_the_place_of_the_main_one(page):
    """`acc` is shown first; choosing `acc_norm` shows that, where a task has it."""
    visible = "#t2 .table:not([hidden])"
    assert page.locator(visible).get_attribute("data-metric") == "acc"
    page.get_by_label("metric", exact=True).select_option("acc_norm")
    assert page.locator(visible).get_attribute("data-metric") == "acc_norm"
    assert page.locator("#t1 .table:not([hidden])").get_attribute("data-metric") == "perplexity"


def test_the_page_holds_what_the_other_formats_print(small: tuple[Report, Path]):
    """The texts to be copied are those of the renderers, letter for letter, each table's own."""
    report, path = small
    text = path.read_text(encoding="utf-8")
    (packed,) = re.findall(r'<template id="copies">([^<]+)</template>', text)
    found = json.loads(gzip.decompress(base64.b64decode(packed)))
    tables = {table.title: table for table in (*report.tables, *report.further)}
    titles = re.findall(r'<table class="data[^"]*">\s*<caption><h\d>([^<]+)<', text)
    shown = [tables.pop(unescape(title)) for title in titles]
    assert [table.name for table in tables.values()] == ["stages"]
    assert found["Markdown"] == [markdown_table(table) for table in shown]
    assert found["LaTeX"] == [render_latex(table) for table in shown]
    assert found["CSV"] == [render_csv(table) for table in shown]


@pytest.mark.parametrize("allowed", [True, False])
def test_a_table_is_copied_in_the_chosen_format(browser, small: tuple[Report, Path], allowed: bool):
    """With or without the permission the clipboard holds what the renderer made."""
    report, path = small
    with opened(browser, path, permissions=["clipboard-read", "clipboard-write"]) as found:
        if not allowed:
            found.page.evaluate(
                "() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }"
            )
        for name, text in (
            ("Markdown", markdown_table(report.tables[0])),
            ("LaTeX", render_latex(report.tables[0])),
            ("CSV", render_csv(report.tables[0])),
        ):
            button = found.page.locator(f"{FULL} .copy button", has_text=name).first
            button.click()
            # Each button has words of its own: those of the one before may still stand there.
            button.locator("xpath=following-sibling::span[1][.='copied']").wait_for()
            assert found.page.evaluate("navigator.clipboard.readText()") == text
        assert found.errors == []


def test_a_number_shows_its_stages(page):
    """The plug-in's number names its seeds, its records, what was kept, and the command."""
    page.locator(f"{FULL} td a", has_text="40.90").click()
    dialog = page.locator("dialog")
    assert dialog.is_visible()
    assert dialog.locator("h2").inner_text() == "plug-in: 40.90 ± 0.75 A"
    assert "Mean over 3 seeds" in dialog.inner_text()
    assert "offsite-bench run synthetic -k" in dialog.locator("tbody th code").inner_text()
    rows = dialog.locator("tbody tr:not(:first-child)")
    assert [row.split("\t")[0] for row in rows.all_inner_texts()] == ["0", "1", "2"]
    assert rows.locator("a", has_text="record").count() == 3
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    assert page.evaluate("document.activeElement.textContent") == "40.90"


def test_a_number_of_several_places_shows_them_all(page):
    """A gap is made from plug-in and emulator; a missing number says why it is missing."""
    page.locator(f"{FULL} td a", has_text="+2.70").click()
    titles = page.locator("dialog tbody th").all_inner_texts()
    assert [title.partition(":")[0] for title in titles] == ["plug-in", "emulator fine-tuned"]


def test_without_its_script_the_page_is_whole(browser, small: tuple[Report, Path]):
    """Every table is there, a number leads to its stages, and nothing offers what cannot be."""
    with opened(browser, small[1], java_script_enabled=False) as found:
        page = found.page
        assert page.locator("#t2 .table").count() == 2
        assert all(table.is_visible() for table in page.locator("table.data").all())
        assert page.locator("#controls").is_hidden()
        assert page.locator("th button, .copy button").count() == 0
        page.locator(f"{FULL} td a", has_text="40.90").click()
        place = page.locator("tbody:target")
        assert "plug-in: tiny-lm, pydoc_topics, 2-4-2" in place.inner_text()
        assert place.is_visible()
        page.locator(f"{FULL} td a", has_text="+2.70").click()
        several = page.locator("li:target")
        assert several.is_visible()
        several.locator("a").last.click()
        assert "emulator fine-tuned" in page.locator("tbody:target").inner_text()
        check_quiet(found)


def test_every_link_has_its_target(small: tuple[Report, Path]):
    """Links inside the page find their element; links out of it find their file."""
    path = small[1]
    text = path.read_text(encoding="utf-8")
    ids = re.findall(r' id="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    links = re.findall(r' href="([^"]+)"', text)
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)
    files = [link for link in links if not link.startswith("#")]
    assert files
    assert [link for link in files if not (path.parent / link).is_file()] == []
    assert [link for link in files if link.endswith(".log")]


def test_the_keyboard_is_enough(page):
    """The first stop skips to the tables; a header sorts on Enter; what has the focus shows it."""
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the tables"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    page.keyboard.press("Enter")
    page.locator(f"{FULL} th button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator(f"{FULL} th[aria-sort=ascending]").count() == 1
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious(browser, small: tuple[Report, Path], scheme: str):
    """No serious or critical violation, in either scheme, with the panel of a number open too."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    # High enough for all of the page: what is out of sight is not looked at.
    size = {"width": 1400, "height": 12000}
    with opened(browser, small[1], color_scheme=scheme, viewport=size) as found:
        assert serious(axe.run(found.page)) == []
        found.page.locator(f"{FULL} td a", has_text="+2.70").click()
        assert serious(axe.run(found.page)) == []


@pytest.mark.slow
def test_axe_finds_nothing_serious_in_a_large_page(browser, large: tuple[Report, Path]):
    """Nor in the report of five hundred cases."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    # The colours are those of the small page, and looking at each of them here takes minutes.
    options = {"rules": {"color-contrast": {"enabled": False}}, "resultTypes": ["violations"]}
    with opened(browser, large[1]) as found:
        assert serious(axe.run(found.page, options=options)) == []


def serious(results) -> list[str]:
    """The violations that keep somebody out, each with its first place."""
    return [
        f"{each['id']}: {each['nodes'][0]['html'][:200]}"
        for each in results.response["violations"]
        if each["impact"] in ("serious", "critical")
    ]


def check_print(browser, path: Path) -> None:
    """No table is wider than the paper, and what only a screen can use is not printed."""
    size = {"width": PRINTED, "height": 700}
    with opened(browser, path, viewport=size) as found:
        found.page.emulate_media(media="print")
        wide = found.page.evaluate(
            """(room) => [...document.querySelectorAll("table")]
                .filter((table) => table.getBoundingClientRect().right > room + 1)
                .map((table) => `${table.caption?.textContent} ${table.offsetWidth}`)""",
            PRINTED,
        )
        assert wide == []
        for control in ("#controls", ".copy", "nav", ".skip"):
            assert found.page.locator(control).first.is_hidden()


def test_tables_fit_the_paper(browser, small: tuple[Report, Path]):
    """Printed on landscape A4 nothing is cut off."""
    check_print(browser, small[1])


@pytest.mark.slow
def test_tables_of_a_large_page_fit_the_paper(browser, large: tuple[Report, Path]):
    """Nor in the report of five hundred cases."""
    check_print(browser, large[1])


class Structure(HTMLParser):
    """Elements and the names of their attributes, in order.

    Where a long name may break there is a `<wbr>`, which has no content and no attributes.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, list[str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        if tag != "wbr" or attrs:
            self.elements.append((tag, sorted(name for name, _ in attrs)))


def report_of(text: str) -> Report:
    """A report whose every text is `text`, as it is: nothing has cleaned it before the page."""
    number = Number(
        estimate=Estimate(mean=1.0, half_width=0.1, n=3, items=5),
        style=Style(decimals=1),
        ratio=2.0,
        mark=text,
        sources=("one",),
        group=text,
        is_best=True,
    )
    absent = Absent(word=text, mark=text, sources=("one", "two"))
    cells = (Text(text=text, mark=text), number, absent)
    names = {"name": text, "title": text, "model": text, "task": text}
    table = Table(
        **names,
        columns=(
            Column(header=text, detail=text, cells=cells, kind="label"),
            Column(header=text, detail=text, cells=cells),
        ),
        notes=(text,),
        footnotes=((text, text),),
        metric="acc",
    )
    picture = Picture(name=text, title=text, description=text, svg="<svg/>", table=text)
    plan = PlanFile(schema=1, suite=text, profile=text, stages=(), name=text)
    return Report(
        suite=text,
        profile=text,
        counts=Counts(planned=1, ok=1, failed=0, missing=0),
        warnings=(text,),
        facts=((text, text),),
        tables=(table,),
        pictures=(picture, dataclasses.replace(picture, table="elsewhere")),
        further=(
            dataclasses.replace(table, name="other", metric=text),
            dataclasses.replace(table, name="detail", metric=""),
        ),
        provenance=provenance(Path("nowhere"), plan, [run_of("one", text), run_of("two", text)]),
    )


def run_of(digest: str, text: str) -> StageRun:
    """A stage whose labels and record are all `text`."""
    labels = dict.fromkeys(("case", "model", "layout", "compression", "tuning", "task"), text)
    planned = PlannedStage(
        digest=digest, kind=f"{text}{digest}", labels=Labels(setting=text, peer=text, **labels)
    )
    record = Record(
        digest=digest,
        machine=text,
        kind=text,
        version=1,
        params={},
        inputs={},
        outcome="failed",
        reason=text,
        blobs={f"{text}.jsonl": "0" * 64, text: text},
        environment={"commit": text, "dirty": True},
        observed={"seconds": 1.0},
    )
    return StageRun(suite=text, planned=planned, records=(record,))


def test_no_text_becomes_a_part_of_the_page():
    """Three hundred texts in every slot: never another element, never another attribute."""
    texts = hostile_texts()
    assert len(texts) >= 300
    expected = Structure(render_html(report_of("plain"))).elements
    found = {text: Structure(render_html(report_of(text))).elements for text in texts}
    assert [text for text, elements in found.items() if elements != expected] == []


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Pages of two stores that differ only in their texts: harmless ones, and hostile ones."""
    hostile = hostile_texts()
    harmless = [f"name {number}" for number in range(len(hostile))]
    plain = ["x", "y", "z"]
    return (
        store_page(tmp_path_factory.mktemp("harmless"), harmless, plain),
        store_page(tmp_path_factory.mktemp("hostile"), hostile, list(SURROGATES)),
    )


def store_page(root: Path, texts: list[str], halves: list[str]) -> Path:
    """The page of a store in which each text stands in every label and every reason."""
    store = SyntheticStore(root, suite=texts[0], profile=texts[1])
    for number, text in enumerate(texts):
        fill_texts(store, text, halves[number % len(halves)])
    return written(root, store.save_plan())[1]


def fill_texts(store: SyntheticStore, text: str, half: str) -> None:
    """A model, task, compression, tuning, peer, machine, fact and reasons of one name."""
    whole = {"model": text, "task": text}
    cut = {"layout": "2-4-2", "compression": text}
    tuned = {"tuning": text, "seed": 0, "case": text}
    unmeasured = Metric(
        metric="peak_memory_process",
        value=None,
        unit="bytes",
        better="lower",
        phase="train",
        grade="unmeasured",
        reason=text,
    )
    speed = Metric(
        metric="throughput_samples",
        value=2.0,
        unit="samples/s",
        better="higher",
        phase="train",
        grade="bounded",
        reason=text,
    )
    score = accuracy("acc", 0.5, 0.1)
    environment = {"commit": "c", "dirty": True, f"fact {text}": text, "half": half}
    facts = {"experimental": [text]}
    data = {f"{text}.jsonl": "0" * 64}
    for kind, labels, metrics, fields in (
        ("evaluate", {**whole, "setting": "full_zero_shot"}, [score], {}),
        ("emulator", {"model": text, **cut}, [], {"facts": facts}),
        ("evaluate", {**whole, **cut, "setting": "emulator_zero_shot"}, [score], {"machine": text}),
        ("tune", {**whole, **cut, **tuned}, [speed, unmeasured], {}),
        ("tune", {**whole, **cut, **tuned, "peer": text}, [speed], {}),
        ("evaluate", {**whole, **cut, **tuned, "setting": "plug_in"}, [score], {"blobs": data}),
        ("finetune", {**whole, "tuning": text, "seed": 0}, None, {}),
        ("evaluate", {**whole, **cut, **tuned, "setting": "emulator_finetuned"}, None, {}),
    ):
        digest = store.plan(kind, **labels)
        record = store.record(digest, kind, *(metrics or ()), environment=environment, **fields)
        if metrics is None:
            failed = {"outcome": "failed", "reason": text}
            store.save_attempt(record.model_copy(update=failed))
        else:
            # The machine is a text like any other and names no file here.
            path = store.save(record.model_copy(update={"machine": "m"}))
            path.unlink()
            store._write(path, record)


@pytest.mark.slow
def test_no_text_of_a_store_becomes_a_part_of_the_page(stores: tuple[Path, Path]):
    """From plan and records to the page: the elements and attributes of harmless texts."""
    harmless, hostile = (Structure(path.read_text(encoding="utf-8")) for path in stores)
    assert hostile.elements == harmless.elements


@pytest.mark.slow
def test_no_text_of_a_store_becomes_a_part_of_the_open_page(browser, stores: tuple[Path, Path]):
    """Nor after the browser has read it and the script has run; no handler, no word, no request."""
    found = []
    for path in stores:
        with opened(browser, path) as each:
            each.page.locator("td a").first.click()
            check_quiet(each)
            found.append(
                each.page.evaluate(
                    """() => [...document.querySelectorAll("*:not(wbr)")].map((element) =>
                        [element.localName, ...element.getAttributeNames().sort()].join(" "))"""
                )
            )
    assert found[0] == found[1]
