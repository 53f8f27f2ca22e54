"""What samples keep: tokens, lengths and fragments, by every sampler, in lookaheads and guided runs alike."""

import json

import pytest
import torch
from rdkit import Chem

from lidar_lightning import UDLM, Constraint, LiDARModule, Lookahead, SamplingModule
from lidar_lightning.backbones import smiles
from lidar_lightning.backbones.constraint import count_violations
from lidar_lightning.samplers import DAS, DCBG, SMC, SVDD, BestOfN, DraftThenFinish, LiDAR
from lidar_lightning.samplers.task import Task
from tests.conftest import tiny, tiny_mdlm
from tests.modules.test_lidar_module import predict, strings

RING = "C1CC1"


@pytest.mark.parametrize(
    ("constraint", "expected"),
    [
        (Constraint(prefix="CC"), "<bos> C C ? ? ? ? ?"),
        (Constraint(template="C*[nH]*O"), "<bos> C ? [nH] ? O ? ?"),
        (Constraint(length=3), "<bos> ? ? ? <eos> <pad> <pad> <pad>"),
        (Constraint(template="*O", length=4), "<bos> ? O ? ? <eos> <pad> <pad>"),
    ],
)
def test_tokens_have_their_places(constraint, expected):
    found = ["?" if token == -1 else smiles.VOCABULARY[token] for token in constraint.fixed(8).tolist()]
    assert " ".join(found) == expected


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "must keep something"),
        ({"prefix": "C", "template": "C*"}, "either a prefix or"),
        ({"prefix": "C*"}, "either a prefix or"),
        ({"prefix": "CBrS"}, "outside the vocabulary: Br S"),
        ({"prefix": "<bos>"}, "outside the vocabulary"),
        ({"prefix": "CCC", "length": 2}, "shorter than the 3 tokens of 'CCC'"),
        ({"length": 0}, "shorter than"),
        ({"prefix": "C", "fragment": "C(("}, "cannot be read as SMARTS"),
    ],
)
def test_what_cannot_be_kept_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Constraint(**settings)


def test_a_constraint_must_fit_the_model():
    with pytest.raises(ValueError, match="keeping CCCCCCCCCCC takes 11 tokens, and the model has room for 10"):
        tiny().keep = "C" * 11
    with pytest.raises(ValueError, match="keep must be a string of SMILES tokens"):
        tiny().keep = 3


def test_molecules_without_the_fragment_are_marked_and_counted(caplog):
    kept = Constraint(prefix=RING)
    found = kept.marked(["C1CC1O", "C1CC1", "C1CC1(", "", "CCO", "C1CCC1"])
    assert found == ["C1CC1O", "C1CC1", "C1CC1(", "", "!CCO", "!C1CCC1"]
    assert Chem.MolFromSmiles("!CCO") is None
    assert count_violations(found) == 2 and "2 of 6 strings are molecules without the fragment" in caplog.text
    assert Constraint(prefix="C1CC").marked(["CCO"]) == ["CCO"]  # an open ring is no molecule to search for
    assert Constraint(prefix="C", fragment="[NH2]").marked(["CN", "CO"]) == ["CN", "!CO"]
    # A kept double bond that a later token makes aromatic is another bond to RDKit.
    assert Constraint(prefix="C1=CC=CC", fragment="C=C").marked(["C1=CC=CC=C1"]) == ["!C1=CC=CC=C1"]


SAMPLERS = [
    BestOfN(2), LiDAR(Lookahead(3, 20)), LiDAR(Lookahead(3, 20), restart=0.6, rounds=2, candidates=2, moves=1), SMC(2),
    SVDD(2), DAS(2, derivative_free=True), DraftThenFinish(draft_steps=2, at=0.5), DCBG(calls=60),
]  # fmt: skip


@pytest.mark.parametrize("make", [tiny, tiny_mdlm])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda one: type(one).__name__)
def test_every_sampler_keeps_the_tokens(make, sampler, carbon_reward):
    model = make()
    model.keep = "C1CC1*N"
    x = sampler(Task(model, model.random_solver(5), carbon_reward, seed=1), 6)
    fixed = model.keep.fixed(12)
    assert (x[:, fixed >= 0] == fixed[fixed >= 0]).all() and not (x == x[0]).all()


@pytest.mark.parametrize("make", [tiny, tiny_mdlm])
def test_banks_keep_the_tokens_and_say_so(make, carbon_reward):
    model, lookahead = make(), Lookahead(3, 10)
    free = lookahead.bank(model, "molecule", 0, [carbon_reward]).provenance
    model.keep = Constraint(template=RING + "*O", length=9)
    bank = lookahead.bank(model, "molecule", 0, [carbon_reward])
    assert all(text.startswith(RING) or text.startswith("!" + RING) for text in model.decode(bank.samples))
    assert (bank.samples[:, 10] == smiles.EOS).all() and (bank.samples[:, 11:] == smiles.PAD).all()
    assert bank.provenance.solver.endswith("keeping C1CC1*O, length=9") and bank.provenance.key() != free.key()
    with pytest.raises(ValueError, match="set keep of both to the same"):
        Lookahead(3, 10, backbone=make()).bank(model, "molecule", 0, [carbon_reward])


def test_a_run_keeps_them_whatever_the_batch_and_counts_violations(tmp_path, carbon_reward):
    def run(size, out=None):
        model = UDLM.from_pretrained(tmp_path / "model", keep=Constraint(prefix="CC", fragment="N"))
        lidar = LiDARModule(model, carbon_reward, Lookahead(3, n=20), steps=4, ess=0.2, out=out and str(out))
        return strings(predict(lidar, 12, size))

    tiny().save_pretrained(tmp_path / "model")
    one = run(5, tmp_path / "run")
    assert one == run(12) == run(5, tmp_path / "run")  # the last is read from the folder
    assert all(text.lstrip("!").startswith("CC") for text in one.values())
    numbers = json.loads((tmp_path / "run" / "summary.json").read_text())["methods"]["lidar"]
    assert numbers["violations"] == sum(text.startswith("!") for text in one.values())
    other = SamplingModule(UDLM.from_pretrained(tmp_path / "model"), carbon_reward, BestOfN(1), 4)
    other.run = None
    assert other.settings()["solver"] == "Ancestral(power=2)"


def test_keep_is_no_part_of_the_weights(tmp_path):
    model = tiny()
    before = model.fingerprint()
    model.keep = RING
    assert model.fingerprint() == before and model.frozen_copy().keep == Constraint(prefix=RING)
    model.save_pretrained(tmp_path)
    assert UDLM.from_pretrained(tmp_path).keep is None
    model.keep = None
    assert torch.equal(model.solver(3).start(torch.zeros(1, 12)), torch.zeros(1, 12))
