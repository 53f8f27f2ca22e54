"""What a report says first, and what it leaves out."""

import json
import re

import pandas as pd
from PIL import Image

from lidar_lightning.runs.report import write_report
from lidar_lightning.runs.terminal import closing

HEAD = "prompt,index,sample,rings"


def molecules(folder, rows=None, prompts=("p", "q")):
    """A run of two methods, of three molecules of each prompt; lidar has a bank."""
    rows = rows or {
        "vanilla": {"samples": 6, "reward": 1.0, "rings": 1.0, "calls": 32.0, "nfe": 32.0},
        "lidar": {"samples": 6, "reward": 2.5, "rings": 2.5, "calls": 40.0, "nfe": 40.0, "lookahead_reward": 0.75},
    }
    for place, name in enumerate(rows):
        (folder / name).mkdir()
        lines = [f"{p},{i},{text},{i + place}" for p in prompts for i, text in enumerate(["C", "C1CC1", "CC"])]
        (folder / name / "samples.csv").write_text("\n".join([HEAD, *lines]))
    best = pd.DataFrame({"prompt": ["p", "q"], "rank": [0, 0], "sample": ["C1CC1O", "C1CCC1"], "reward": [4.0, 3.0]})
    best.to_csv(folder / "lidar" / "lookaheads.csv", index=False)
    (folder / "summary.json").write_text(json.dumps({"methods": rows, "reward_name": "rings"}))
    return write_report(folder).read_text()


def test_the_gain_stands_first_beside_the_bank_and_the_plain_model(tmp_path):
    page = molecules(tmp_path)
    glance = page.split("<h2>")[0]
    assert re.findall("<strong>(.*?)</strong>", glance) == ["1", "2.5"]
    assert re.findall("<span>(.*?)</span>", glance) == ["mean reward", "lookaheads 0.75 · plain model 1"]


def test_prompts_have_their_means_and_banks_their_best(tmp_path):
    page = molecules(tmp_path)
    table = page.split("<h2>Prompts</h2>")[1].split("</table>")[0]
    assert re.findall("<td>(.*?)</td>", table) == ["1.000", "2.000"] * 2
    bank = page.split("Best lookaheads of the bank")[1]
    assert re.findall("<b>(.*?)</b>", bank) == ["4", "3"] and "C1CC1O" in bank
    assert "Highest reward: 3 of 3 different ones" in page and "At random: 6 of 6" in page


def test_one_sample_a_prompt_has_no_table_of_means(tmp_path):
    rows = {"a": {"reward": 1.0}}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "samples.csv").write_text(f"{HEAD}\np,0,C,1\nq,0,CC,2\n")
    (tmp_path / "summary.json").write_text(json.dumps({"methods": rows}))
    assert "Prompts" not in write_report(tmp_path).read_text()


def test_a_column_that_repeats_another_is_left_out(tmp_path):
    table = molecules(tmp_path).split("<h2>Methods</h2>")[1].split("</table>")[0]
    assert "<th>reward</th>" in table and "<th>rings</th>" not in table
    assert "<th>calls</th>" in table and "<th>nfe</th>" not in table


def test_whole_numbers_are_marked_at_whole_numbers(tmp_path):
    rows = {"a": {"reward": 0.5}}
    (tmp_path / "a").mkdir()
    lines = [f"p,{i},{'C' * (i + 1)},{i % 2}" for i in range(4)]
    (tmp_path / "a" / "samples.csv").write_text("\n".join([HEAD, *lines]))
    (tmp_path / "summary.json").write_text(json.dumps({"methods": rows}))
    chart = write_report(tmp_path).read_text().split("<figcaption>rings</figcaption>")[1].split("</svg>")[0]
    assert re.findall('text-anchor="middle">(.*?)<', chart) == ["0", "1"]


def test_equal_values_are_a_sentence_and_no_histogram(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "samples.csv").write_text("\n".join([HEAD, *(f"p,{i},{'C' * (i + 1)},2" for i in range(4))]))
    (tmp_path / "summary.json").write_text(json.dumps({"methods": {"a": {"reward": 2.0}}}))
    figure = write_report(tmp_path).read_text().split("<figcaption>rings</figcaption>")[1].split("</figure>")[0]
    assert "All 4 are 2." in figure and "<svg" not in figure


def test_decimals_that_are_zero_in_a_whole_column_are_left_out(tmp_path):
    rows = {"a": {"reward": 1.25, "calls": 42.5, "w1": 0.1234}, "b": {"reward": 2.0, "calls": 32, "w1": 1.0}}
    (tmp_path / "summary.json").write_text(json.dumps({"methods": rows}))
    cells = re.findall("<td>(?:<b>)?(.*?)<", write_report(tmp_path).read_text())
    assert cells == ["1.25", "0.123", "42.5", "2.00", "1.000", "32.0"]


def test_pictures_say_how_many_there_are_and_lookaheads_their_reward(tmp_path):
    home = tmp_path / "lidar"
    home.mkdir()
    for name in [*(f"{i}.png" for i in range(8)), "best.png"]:
        Image.new("RGB", (1600, 800)).save(home / name)
    lines = [f"a cat,{i},{i}.png,{i / 10}" for i in range(8)]
    (home / "samples.csv").write_text("\n".join([HEAD, *lines]))
    (home / "lookaheads.csv").write_text("prompt,rank,sample,reward\na cat,0,best.png,3.25\n")
    summary = {"methods": {"lidar": {"reward": 0.35}}, "modality": "image", "reward_name": "rings"}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    page = write_report(tmp_path).read_text()
    assert "6 of 8</span>" in page and "<figcaption>3.25</figcaption>" in page
    assert page.count('class="picture large"') == 7


def test_the_terminal_has_the_same_numbers(tmp_path):
    molecules(tmp_path)
    lines = closing(tmp_path).splitlines()
    assert lines[2].split() == ["reward", "lookahead", "reward", "calls"]
    assert lines[3].split() == ["vanilla", "1.00", "–", "32.00"]
    assert lines[4].split() == ["lidar", "2.50", "0.75", "40.00"]
    assert lines[-1].split() == ["report", str(tmp_path / "report.html")]
