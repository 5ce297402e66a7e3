"""Known mistakes, written in JAX with random sizes, are each named first; right ports are not."""

import pathlib
import subprocess
import sys

import jax
import numpy as np
import pytest
from diagnosing import diagnosed, result

from parity import diagnose
from parity.backends.data import draw
from parity.cases import table
from parity.diagnosis.script import write_script
from parity.mutants.ports import PORTS, RIGHT
from parity.mutants.ports.layer import BOTH_PADDED, GATED, GRADIENTS, itself, port


@pytest.mark.slow
@pytest.mark.parametrize("name", PORTS)
def test_it_is_named_first(name):
    diagnosis = result(name)
    assert diagnosis.explanations, str(diagnosis)
    first = [convention.what for convention in diagnosis.explanations[0].conventions]
    wanted = PORTS[name].named.split(", and ")
    assert len(first) == len(wanted), str(diagnosis)
    for words in wanted:
        assert any(words in what for what in first), str(diagnosis)
    assert diagnosis.explanations[0].gradients
    assert not diagnosis.passed


def test_there_are_enough():
    assert len(PORTS) >= 40
    readme = pathlib.Path(__file__).parents[2] / "README.md"
    assert f"plants {len(PORTS)} mistakes" in readme.read_text()


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_port_is_not_accused(name):
    diagnosis = diagnosed(RIGHT[name], name)
    assert diagnosis.passed, str(diagnosis)
    assert diagnosis.torch.unjudged == []
    assert "the port agrees with torch" in str(diagnosis)


@pytest.mark.slow
def test_no_case_of_the_table_is_accused():
    """Every twentieth, and two in which all gates are saturated."""
    whole = [case for case in table() if case.batch != 0]
    saturated = [case for case in whole if case.group == "saturated"]
    for case in whole[::20] + saturated[:2]:
        data = draw(case, "float32")
        weights = {n: a for n, a in data.leaves.items() if n.startswith(("weight", "bias"))}
        inputs = {n.replace("_", ""): a for n, a in data.leaves.items() if n not in weights}
        if case.lengths is not None:
            inputs["lengths"] = np.array(case.lengths)
        if data.masks is not None:
            inputs["masks"] = data.masks
        outputs = jax.jit(port(case, itself))(weights, **inputs)
        outputs = jax.tree.map(np.asarray, outputs)
        options = {"nonlinearity": case.nonlinearity, "dropout": case.dropout}
        first = case.batch_first and case.batch is not None
        diagnosis = diagnose(None, weights, inputs, outputs, batch_first=first, **options)
        assert diagnosis.passed, f"{case.name}: {diagnosis}"


# Where it is wrong, and what the difference looks like.

LINES = {
    "GRU reset before": "y is first wrong at step 0",
    "h0 ignored": "y is first wrong at step 0",
    "halves swapped": "y is torch's y with its halves swapped",
    "y a step late": "y is torch's y a step late",
    "final c, h": "h_n is torch's c_n, and c_n its h_n",
    "final states by direction": "only final states are wrong, y is right",
    "last layer's state only": "c_n has shape (1, ",
    "layers swapped": "the first final state that is wrong is h_n of layer 1 forward",
    "backward forward": "the forward half of y is right",
    "state detached": "only gradients are wrong, all outputs are right",
    "float32 inside": "as it would be in float32: is x64 on?",
    "TF32": "as it would be by TF32 or bfloat16 products",
}


@pytest.mark.slow
@pytest.mark.parametrize(("name", "line"), LINES.items(), ids=LINES)
def test_where_and_patterns(name, line):
    diagnosis = result(name)
    assert any(line in entry for entry in diagnosis.where + diagnosis.patterns), str(diagnosis)


@pytest.mark.slow
def test_steps_from_torchs_own_state():
    in_formula = diagnosed(PORTS["c not squashed"]._replace(pair=GRADIENTS), "fed")
    where = " ".join(in_formula.where)
    assert "with torch's state fed at every step, the first that is wrong is h of layer 0" in where
    assert "there c is right, and h is not: it is o, or how c becomes h" in where
    padded = BOTH_PADDED._replace(cotangents=GRADIENTS.cotangents)
    in_joining = diagnosed(PORTS["backward in the padding"]._replace(pair=padded), "fed")
    assert "no state is off by more than" in " ".join(in_joining.where)
    from_its_own = diagnosed(PORTS["GRU other z"]._replace(pair=GATED), "fed")
    line = "with the port's own state before each step, the first that is wrong"
    assert line in str(from_its_own)


# Scripts.

SCRIPTS = {
    "LSTMCell i g f o": "hn is off by",
    "lengths + 1": "y is off by",
    "dropout unscaled": "y is off by",
    "final states batch first": "hn is [",
}
RUN = "import runpy, sys\nfor path in sys.argv[1:]: print('next'), runpy.run_path(path)"


@pytest.mark.slow
def test_scripts(tmp_path):
    """Scripts run alone, from any folder, and print the same errors."""
    paths = [tmp_path / f"again {i}.py" for i in range(len(SCRIPTS))]
    for name, path in zip(SCRIPTS, paths, strict=True):
        write_script(result(name).problem, path)
    command = [sys.executable, "-W", "error", "-c", RUN, *map(str, paths)]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    printed = [part.splitlines() for part in run.stdout.split("next\n")[1:]]
    for (name, start), lines in zip(SCRIPTS.items(), printed, strict=True):
        assert len(lines) == len(result(name).problem.found)
        [line] = [line for line in lines if line.startswith(start)]
        if "off by" in start:
            assert float(line.split()[-1]) > 1e-3
