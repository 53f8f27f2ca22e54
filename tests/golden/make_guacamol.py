"""Scores of the package guacamol for the molecules of guacamol.json: `python make_guacamol.py FOLDER`.

FOLDER is the unpacked source of guacamol 0.5.5, which needs RDKit, SciPy, joblib and fcd. It asks SciPy for a function
that is NumPy's by now.
"""

import json
import sys
from pathlib import Path

import numpy
import scipy

NAMES = {
    "isomers_c11h24": "C11H24", "isomers_c9h10n2o2pf2cl": "C9H10N2O2PF2Cl", "isomers_c7h8n2o2": "C7H8N2O2",
    "median1": "Median molecules 1", "median2": "Median molecules 2", "logp_low": "logP (target: -1.0)",
    "logp_high": "logP (target: 8.0)", "tpsa_high": "TPSA (target: 150.0)",
}  # fmt: skip

if __name__ == "__main__":
    sys.path.insert(0, sys.argv[1])
    scipy.histogram = numpy.histogram
    from guacamol.benchmark_suites import goal_directed_suite_trivial, goal_directed_suite_v2

    tasks = {task.name.lower(): task.objective for task in [*goal_directed_suite_v2(), *goal_directed_suite_trivial()]}
    path = Path(__file__).with_name("guacamol.json")
    golden = json.loads(path.read_text())
    for name in golden["scores"]:
        objective = tasks[NAMES.get(name, name.replace("_", " ")).lower()]
        golden["scores"][name] = [float(f"{objective.score(text):.6g}") for text in golden["smiles"]]
    rows = ",\n".join(f"{json.dumps(name)}: {json.dumps(values)}" for name, values in golden["scores"].items())
    head = f'{{"source": {json.dumps(golden["source"])},\n"smiles": {json.dumps(golden["smiles"])},\n"scores": {{\n'
    path.write_text(f"{head}{rows}}}}}\n")
