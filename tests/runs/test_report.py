"""The report of small runs, read back by an HTML parser."""

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from lidar_lightning.runs.page import SCRIPT
from lidar_lightning.runs.report import write_report

VOID = {"meta", "br", "img", "link"}
MOLECULES = ["C", "CC", "CCO", "OCC", "c1ccccc1", "C1CC1", "C12C3C4C1C5C2C3C45", "C1CC", ""]


class Page(HTMLParser):
    """Collects tags, attributes and text; checks that every element is closed in order."""

    def __init__(self, path):
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data.strip()))

    def inside(self, tag):
        return [text for place, text in self.texts if place == tag and text]


def make_run(folder, methods=("vanilla", "lidar"), samples=MOLECULES, summary=None, diagnostics=False):
    rows = {
        name: {"reward": 1.5 + i, "valid": 0.5, "nfe": 32 * (i + 1), "seconds": 2.0 + i}
        for i, name in enumerate(methods)
    }
    for name in methods:
        (folder / name).mkdir(parents=True)
        lines = [f'"p, {i}",{i},{text},{i},{i / 7}' for i, text in enumerate(samples)]
        (folder / name / "samples.csv").write_text("\n".join(["prompt,index,sample,rings,qed", *lines]))
        if diagnostics:
            lines = ["step,t,ess,ess_r,shift", "0,1.0,50,20,0.1", "0,1.0,40,nan,0.1", "1,0.5,5,1,0.2"]
            (folder / name / "diagnostics.csv").write_text("\n".join(lines))
    (folder / "summary.json").write_text(json.dumps({"methods": rows} | (summary or {})))
    return folder


def molecules(page):
    return page.attributes.count(("class", "molecule"))


def plots(page):
    return page.attributes.count(("class", "plot"))


def test_contents(tmp_path):
    run = make_run(tmp_path, summary={"title": "Rings", "settings": {"n": 200, "lookahead": {"steps": 8}}})
    path = write_report(run)
    page = Page(path)
    assert path == run / "report.html"
    assert page.inside("h1") == ["Rings"] and page.inside("title") == ["Rings"]
    assert page.inside("th") == ["method", "reward", "valid", "nfe", "seconds", "vanilla", "lidar"]
    assert page.inside("h2") == ["Methods", "Rewards", "Molecules", "Settings"]
    assert plots(page) == 2, "one chart per reward column"
    # Per method: six unique valid molecules on top, and all nine samples at random, seven of which can be drawn.
    assert molecules(page) == 2 * (6 + 7) and page.inside("div").count("invalid") == 2 * 2
    assert page.tags.count("svg") == plots(page) + molecules(page)
    assert page.inside("dd") == ["200", '{"steps": 8}']
    assert page.source.count("7 of 9 samples are valid, 6 of them unique") == 2


def test_bold_follows_the_direction(tmp_path):
    table = write_report(make_run(tmp_path / "a")).read_text().split("</table>")[0]
    assert re.findall("<b>(.*?)</b>", table) == ["32", "2", "2.5"]
    lower = make_run(tmp_path / "b", summary={"higher_is_better": False})
    table = write_report(lower).read_text().split("</table>")[0]
    assert re.findall("<b>(.*?)</b>", table) == ["1.5", "32", "2"]


@pytest.mark.parametrize(("higher", "expected"), [(True, [5, 4, 3, 2, 1, 0]), (False, [0, 1, 2, 3, 4, 5])])
def test_top_molecules_are_sorted_by_the_guiding_reward(tmp_path, higher, expected):
    """`rings` ascends and `qed` is the guiding reward that descends in the same file."""
    lines = [f",{i},{text},{i},{5 - i}" for i, text in enumerate(["C", "CC", "CCC", "CCCC", "CCCCC", "CCCCCC"])]
    run = make_run(tmp_path, ["only"], summary={"reward_name": "qed", "higher_is_better": higher})
    (run / "only" / "samples.csv").write_text("\n".join(["prompt,index,sample,rings,qed", *lines]))
    grid = write_report(run).read_text().split('<div class="grid">')[1]
    assert [int(x) for x in re.findall("<b>(.*?)</b>", grid)] == expected


def test_nothing_is_loaded_from_outside_and_all_text_is_escaped(tmp_path):
    evil = "<script src=http://x.y></script>"
    run = make_run(
        tmp_path, ["<img src=http:x>&"], [evil, "C"], {"title": evil, "settings": {evil: evil}}, diagnostics=True
    )
    page = Page(write_report(run))
    assert not {"link", "img", "iframe"} & set(page.tags)
    assert page.tags.count("script") == 1 and page.inside("script") == [SCRIPT.strip()], "our own, and nothing in it"
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    (policy,) = (value for key, value in page.attributes if key == "content" and "default-src" in value)
    assert policy.endswith(f"script-src 'sha256-{digest}'") and "default-src 'none'" in policy
    links = [(key, value) for key, value in page.attributes if key in ("src", "href", "xlink:href", "srcset")]
    assert links == []
    style = page.inside("style")[0]
    assert "url(" not in style and "@import" not in style and "http" not in style
    assert page.inside("h1") == [evil] and page.inside("dd") == [evil] and evil in page.inside("code")
    assert "<img src=http:x>&" in page.inside("th")


def test_diagnostics_are_plotted(tmp_path):
    page = Page(write_report(make_run(tmp_path, diagnostics=True)))
    assert page.inside("h2") == ["Methods", "Rewards", "Molecules", "Guidance"]
    assert plots(page) == 2 + 2 and page.attributes.count(("class", "line")) == 4


@pytest.mark.parametrize("samples", [[], ["", "C1CC"]])
def test_a_method_without_valid_molecules(tmp_path, samples):
    run = make_run(tmp_path, samples=samples, summary={"methods": {"vanilla": {"valid": 0.0}, "lidar": {}}})
    page = Page(write_report(run))
    assert molecules(page) == 0 and page.inside("th")[-2:] == ["vanilla", "lidar"]


def test_numbers_that_are_none(tmp_path):
    rows = {"a": {"reward": float("nan"), "note": "x<y", "valid": 1.0}, "b": {"reward": 2.0, "valid": True}}
    (tmp_path / "summary.json").write_text(json.dumps({"methods": rows}))
    page = Page(write_report(tmp_path))
    assert page.inside("td") == ["–", "1", "x<y", "2", "true", "–"]
    assert page.inside("h2") == ["Methods"]


def test_a_single_methods_samples_may_lie_in_the_run_itself(tmp_path):
    run = make_run(tmp_path, ["only"])
    (run / "only" / "samples.csv").rename(run / "samples.csv")
    assert molecules(Page(write_report(run))) == 6 + 7


def test_the_report_is_deterministic(tmp_path):
    run = make_run(tmp_path, samples=[f"{'C' * i}O" for i in range(1, 40)])
    assert write_report(run).read_bytes() == write_report(str(run)).read_bytes()


def test_rows_of_one_method_share_a_colour_and_a_held_out_reward_is_shown(tmp_path):
    methods = ["vanilla", *(f"{name} @ {budget}" for budget in (8, 16) for name in "abcdefghij")]
    rows = {name: {"reward": 1.0, "qed": 0.25, **{f"other_{i}": i for i in range(9)}} for name in methods}
    page = Page(write_report(make_run(tmp_path, methods, samples=["C"], summary={"methods": rows})))
    table = page.source.split("<details>")[0]
    named = [(name, colour) for colour, name in re.findall(r'background:var\((--c\d+)\)"></i>([^<]+)</th>', table)]
    assert [name for name, _ in named] == methods
    assert len({colour for _, colour in named}) == 11
    assert dict(named)["c @ 8"] == dict(named)["c @ 16"]
    assert "<th>qed</th>" in table and "<th>rings</th>" not in table and "other" not in table
