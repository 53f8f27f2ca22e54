"""Builds sdist and wheel, and uses the wheel as a stranger does, away from the sources: `python tests/wheel.py`.

The dependencies are those of the environment that runs this; nothing of the repository itself is on its path.
"""

import os
import subprocess
import sys
import sysconfig
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
CHECK = """
import datamodules, lidar_lightning, recipes.demo
from lidar_lightning.utils.smiles_io import read_smiles
assert lidar_lightning.__file__.startswith({folder!r}), lidar_lightning.__file__
model = lidar_lightning.UDLM.from_pretrained("udlm-qm9-small")
print("wheel:", model.name, model.fingerprint(), len(read_smiles()), "molecules")
"""
TYPED = """
from lidar_lightning import UDLM, LiDARModule, Lookahead
from lidar_lightning.rewards import RingCount

backbone: UDLM = UDLM.from_pretrained("udlm-qm9-small")
module = LiDARModule(backbone, RingCount(), lookahead=Lookahead(steps=8, n=200), out="run")
number: int = module.steps
"""
MYPY = """
[mypy]
[mypy-torch.*,lightning.*,transformers.*,diffusers.*,peft.*,rdkit.*,pandas.*,numpy.*,huggingface_hub.*,torchmetrics.*]
follow_imports = skip
"""
"""What others type is not looked at: it would take minutes."""
WRONG = {"Lookahead(steps=8, n=200)": 'Lookahead(steps="8")', "number: int": "number: str"}
"""What a type checker that sees the types of the package must refuse."""


def build(folder: Path) -> Path:
    """sdist and wheel, checked as an index would; returns the wheel."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    files = sorted(folder.iterdir())
    assert [path.suffix for path in files] == [".whl", ".gz"], files
    subprocess.run([sys.executable, "-m", "twine", "check", "--strict", *files], check=True)
    print(*(f"{path.name}: {path.stat().st_size / 2**20:.1f} MiB" for path in files), sep="\n")
    return files[0]


def environment(folder: Path, wheel: Path) -> Path:
    """The programs of an environment of the wheel and of the dependencies of this one."""
    venv.create(folder, symlinks=True)
    programs = folder / "bin"
    packages = subprocess.check_output(
        [programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], text=True
    )
    (Path(packages.strip()) / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    pip = [sys.executable, "-m", "pip", "--python", programs / "python"]
    subprocess.run([*pip, "install", "--quiet", "--no-deps", "--ignore-installed", wheel], check=True)
    return programs


def check_types(folder: Path, python: Path) -> None:
    """A user's file is checked against the types of the installed package: a right one, and wrong ones."""
    (folder / "mypy.ini").write_text(MYPY)
    for text, errors in ((TYPED, 0), *((TYPED.replace(*change), 1) for change in WRONG.items())):
        (folder / "mine.py").write_text(text)
        command = [sys.executable, "-m", "mypy", "--python-executable", python, "mine.py"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
        assert done.returncode == errors, done.stdout + done.stderr
    print("mypy sees the types of the installed wheel")


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        programs = environment(folder / "environment", build(folder / "dist"))
        settings = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}

        def run(*command: str | Path) -> str:
            return subprocess.run(command, check=True, cwd=folder, env=settings, stdout=-1, text=True).stdout

        print(run(programs / "python", "-c", CHECK.format(folder=str(folder))), end="")
        assert "qm9/lidar" in run(programs / "lidar", "config")
        assert "class_path: lidar_lightning.LiDARModule" in run(
            programs / "lidar", "predict", "-c", "qm9/lidar", "--print_config"
        )
        check_types(folder, programs / "python")


if __name__ == "__main__":
    main()
