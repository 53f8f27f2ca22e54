"""Builds the wheel, installs it in a folder of its own, and imports it from elsewhere: `python tests/wheel.py`."""

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECK = """
import datamodules, lidar_lightning, recipes.demo
from lidar_lightning.utils.smiles_io import read_smiles
assert lidar_lightning.__file__.startswith({folder!r}), lidar_lightning.__file__
model = lidar_lightning.UDLM.from_pretrained("udlm-qm9-small")
print("wheel:", model.name, model.fingerprint(), len(read_smiles()), "molecules")
"""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        run = [sys.executable, "-m"]
        subprocess.run([*run, "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT], check=True, stdout=-3)
        (wheel,) = Path(folder).glob("*.whl")
        target = f"{folder}/site"
        subprocess.run([*run, "pip", "install", "--quiet", "--no-deps", "--target", target, wheel], check=True)
        check = f"import sys; sys.path.insert(0, {target!r})\n" + CHECK.format(folder=target)
        subprocess.run([sys.executable, "-c", check], check=True, cwd=folder)


if __name__ == "__main__":
    main()
