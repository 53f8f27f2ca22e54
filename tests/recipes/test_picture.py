"""The picture of before and after."""

from PIL import Image

from recipes.picture import GAP, LABEL, SHOWN, TILE, before_after


def runs(folder):
    for method, colour in (("vanilla", "red"), ("lidar", "blue")):
        (folder / method).mkdir(parents=True)
        lines = [f"m,{i},{text},1" for i, text in enumerate(["C1CC1", "CCO", "CC", "C1CCC1", "CO", "C1CC"])]
        (folder / method / "samples.csv").write_text("\n".join(["prompt,index,sample,ring_count", *lines]))
        home = folder / "shapes" / method
        home.mkdir(parents=True)
        lines = []
        for number in range(6):
            Image.new("RGB", (64, 64), colour).save(home / f"{number}.png")
            lines.append(f"caption {number},0,{number}.png,1")
        (home / "samples.csv").write_text("\n".join(["prompt,index,sample,shapes_verdict", *lines]))


def test_both_methods_stand_one_above_the_other(tmp_path):
    runs(tmp_path)
    first = before_after(tmp_path, tmp_path / "shapes", tmp_path / "a.png").read_bytes()
    assert before_after(tmp_path, tmp_path / "shapes", tmp_path / "b.png").read_bytes() == first
    page = Image.open(tmp_path / "a.png")
    left = 4 * GAP + SHOWN * (TILE + GAP) - GAP
    for row, colour in enumerate(((255, 0, 0), (0, 0, 255))):
        for column in range(SHOWN):
            corner = left + column * (TILE + GAP), GAP + row * (TILE + LABEL) + LABEL - GAP
            assert page.getpixel((corner[0] + TILE - 5, corner[1] + TILE - 5)) == colour
