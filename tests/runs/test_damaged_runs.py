"""What a report refuses, by name: summaries, samples, curves and tables that are missing or damaged."""

import pytest

from lidar_lightning.runs.report import write_report
from tests.runs.test_report import Page, make_run


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no summary.json"),
        ('{"methods": {', "is damaged, not valid JSON"),
        ("[]", "lists no methods"),
        ('{"methods": {}}', "lists no methods"),
        ('{"methods": {"a": 1}}', "lists no methods"),
        ('{"methods": {"a": {}}, "settings": [1]}', '"settings" in .* must be a dict, got list'),
        ('{"methods": {"a": {}}, "modality": "sound"}', "modality 'sound': known are"),
    ],
)
def test_bad_summaries(tmp_path, content, message):
    if content is not None:
        (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_missing_folder(tmp_path):
    with pytest.raises(ValueError, match="no-such-run' is not a folder"):
        write_report(tmp_path / "no-such-run")


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "damaged"), ("prompt,index\na,1\n", r"lacks the columns \['sample'\], it has \['prompt', 'index'\]")],
)
def test_bad_samples(tmp_path, content, message):
    run = make_run(tmp_path)
    (run / "lidar" / "samples.csv").write_text(content)
    with pytest.raises(ValueError, match=f"lidar/samples.csv' (is )?{message}"):
        write_report(run)


def test_reward_name_that_no_sample_has(tmp_path):
    with pytest.raises(ValueError, match=r"reward_name 'logp' .* which have \['rings', 'qed'\]"):
        write_report(make_run(tmp_path, summary={"reward_name": "logp"}))


POINT = [8, 1.0, 0.5, 1.5]


@pytest.mark.parametrize(
    "curves",
    [
        [1], "x", {"reward": [POINT]}, {"reward": {}}, {"reward": {"a": []}}, {"reward": {"a": [POINT[:2]]}},
        {"reward": {"a": [["x", *POINT[1:]]]}}, {"reward": {"a": [[-8, *POINT[1:]]]}},
        {"reward": {"a": [[*POINT[:3], float("nan")]]}}, {"reward": {"a": [POINT, None]}},
    ],
)  # fmt: skip
def test_damaged_curves_are_named(tmp_path, curves):
    run = make_run(tmp_path, summary={"curves": curves})
    with pytest.raises(ValueError, match='"curves" in .*summary.json. is damaged'):
        write_report(run)


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("diagnostics.csv", "step,t,ess,ess_r,shift\n0,1.0,many,2,3\n", "'many' in column 'ess' is no number"),
        ("diagnostics.csv", "step,t,ess\nfirst,1.0,5\n", "'first' in column 'step' is no number"),
        ("diagnostics.csv", b"\x00\xff\xfe", "damaged, not a readable CSV file"),
        ("diagnostics.csv", "", "damaged, not a readable CSV file"),
        ("samples.csv", "prompt,index,sample,rings\np,0,C,three\n", "'three' in column 'rings' is no number"),
        ("samples.csv", 'prompt,index,sample,rings\n"p, 0', "damaged, not a readable CSV file"),
        ("summary.json", b"\xff\xfe{}", "damaged, not valid JSON"),
        ("summary.json", '{"methods": {"a": {}}, "modality": ["x"]}', "no report for samples of modality"),
    ],
)
def test_damaged_files_are_named(tmp_path, file, content, message):
    run = make_run(tmp_path, diagnostics=True)
    path = run / file if file == "summary.json" else run / "lidar" / file
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=message):
        write_report(run)


@pytest.mark.parametrize("content", ["step,t,ess,ess_r,shift\n", "step,t,ess,ess_r,shift\n0,,,,\n"])
def test_diagnostics_without_numbers(tmp_path, content):
    run = make_run(tmp_path, diagnostics=True)
    (run / "lidar" / "diagnostics.csv").write_text(content)
    assert "No effective sample sizes were recorded." in write_report(run).read_text()


def test_numbers_too_large_to_show(tmp_path):
    (tmp_path / "summary.json").write_text('{"methods": {"a": {"reward": 1%s}, "b": {"reward": 1}}}' % ("0" * 400))
    assert Page(write_report(tmp_path)).inside("td")[:2] == ["–", "1"]


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("index,sample,r\n0,x.png,1\n", "lacks the columns"),
        ("prompt,index,sample,r\np,0,x.png,1\n", "x.png of the run is damaged"),
        ("prompt,index,sample,r\np,0,../x.png,1\n", "the picture '../x.png' lies outside the run"),
        ("prompt,index,sample,r\np,0,/x.png,1\n", "the picture '/x.png' lies outside the run"),
    ],
)
def test_damaged_picture_runs_are_named(tmp_path, table, message):
    run = make_run(tmp_path, ["only"], summary={"modality": "image"})
    (run / "only" / "samples.csv").write_text(table)
    (run / "only" / "x.png").write_bytes(b"nonsense")
    with pytest.raises(ValueError, match=message):
        write_report(run)
