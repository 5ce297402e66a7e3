"""What `parity.compare` refuses, what disagrees before any number does, and its command."""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from ported import IDS, Classifier, Tied, classify, compare_linear, linear
from torch import nn

import parity
from parity.__main__ import main


pytestmark = pytest.mark.usefixtures("seeded")


def test_shapes_dtypes_and_counts():
    wrong = lambda function, **o: compare_linear(function, gradients=True, **o).wrong
    none = "gradients: none, where outputs differ in number or shape"
    assert wrong(lambda p, x: linear(p, x).T) == ["y: float64[2, 4], wanted float64[4, 2]", none]
    assert wrong(lambda p, x: (linear(p, x), x)) == ["output 1: unexpected", none]
    assert wrong(lambda p, x: ()) == ["y: missing", none]
    report = compare_linear(lambda p, x: linear(p, x).astype(jnp.float32))
    assert report.wrong == ["y: float32[4, 2], wanted float64[4, 2]"]
    assert report.remarks == ["not float64, so that a dtype must stand in the JAX function: y"]
    assert str(report).count("wanted float64") == 1


def test_nan_in_torch_does_not_pass():
    bad = {"weight": np.full((2, 3), np.nan), "bias": np.zeros(2)}
    report = compare_linear(params=bad)
    assert report.wrong == []
    assert not report.passed
    assert "not judged: y (not finite)" in str(report)


def refused(error, message, *args, **options):
    with pytest.raises(error, match=re.escape(message)) as caught:
        compare_linear(*args, **options)
    return caught.value


def test_dropout_in_train_mode():
    module = Classifier(dropout=0.5)
    with pytest.raises(ValueError, match=re.escape(
        "torch gives two different results for the same input (in train mode and dropping: dropout"
        "): call `.eval()` on the module"
    )):  # fmt: skip
        parity.compare(module, classify, inputs=[IDS])
    assert parity.compare(module.eval(), classify, inputs=[IDS], gradients=False).passed


def test_errors_of_arguments():
    refused(TypeError, "`inputs` must be a list or dict of arrays or shapes, such as [(3, 7, 10)] "
            "for a single one, got (4, 3)", inputs=(4, 3))  # fmt: skip
    refused(TypeError, "for a single one, got ndarray", inputs=np.ones((4, 3)))
    refused(ValueError, "`dtype` must be one of float64, float32, bfloat16, got 'half'",
            dtype="half")  # fmt: skip
    refused(ValueError, "`outputs` must be 1 different names", outputs=["a", "b"])
    refused(ValueError, "`cotangents` has z [3], wanted among y [4, 2]",
            cotangents={"z": np.ones(3)}, gradients=True)  # fmt: skip
    refused(TypeError, "`params` is needed beside a torch function", module=lambda p, x: x)


def test_errors_of_parameters():
    params = {"weight": np.ones((2, 3)), "bias": np.ones(2)}
    refused(ValueError, "`params` names `wieght`, which torch does not have: is `weight` meant?",
            params=params | {"wieght": 1})  # fmt: skip
    refused(ValueError, "`params` has no `bias`, which the module has",
            params={"weight": params["weight"]})  # fmt: skip
    refused(ValueError, "`params` has `bias` of shape (3,), wanted (2,)",
            params=params | {"bias": np.ones(3)})  # fmt: skip
    refused(TypeError, "`params` must be flat, by torch's names", params={"fc": params})
    tied = {name: a.detach() + i for i, (name, a) in enumerate(Tied().state_dict().items())}
    with pytest.raises(ValueError, match=r"two values for `embedding\.weight`"):
        parity.compare(Tied(), linear, params=tied, inputs=[IDS])


def test_errors_of_mappings():
    refused(ValueError, "`mapping` names `wieght`, which torch does not have: is `weight` meant?",
            mapping={"w": "wieght"})  # fmt: skip
    refused(ValueError, "`mapping` names `x`, which torch does not have, which has weight, bias",
            mapping={"w": "x"})  # fmt: skip
    refused(TypeError, "`mapping` must be a function or a dict, got list", mapping=[1])
    error = refused(KeyError, "wieght", mapping=lambda p: p["wieght"])
    assert "raised by `mapping`; torch's names are weight, bias" in error.__notes__


def test_the_users_own_errors_have_a_note():
    error = refused(KeyError, "kernel", lambda params, x: x @ params["kernel"])
    [note] = [n for n in error.__notes__ if n.startswith("raised by the JAX function")]
    assert "params['weight']: float64[2, 3]" in note
    assert "input: float64[4, 3]" in note

    class Fixed(nn.Module):
        def forward(self, x):
            return x @ torch.zeros(3, 3, dtype=torch.float32)

    error = refused(RuntimeError, "dtype", module=Fixed())
    assert "raised by the torch side, run in torch.float64" in error.__notes__[0]
    assert "x.new_zeros" in error.__notes__[0]


def test_float32_inside_the_function_is_named_as_the_cause():
    def fixed(params, x):
        step = lambda c, a: (c + a, c)
        return jax.lax.scan(step, jnp.zeros(3, jnp.float32), x)[1] @ params["weight"].T

    with jax.numpy_dtype_promotion("standard"):  # as users have it
        error = refused(TypeError, "float32", fixed)
    assert any("or compare with dtype='float32'" in note for note in error.__notes__)


def test_errors_of_sides():
    message = "`torch_side` is the class Linear: pass a module, made of it"
    with pytest.raises(TypeError, match=message):
        parity.compare(nn.Linear, linear, inputs=[(4, 3)])
    with pytest.raises(TypeError, match="`jax_function` must be a function, got a NoneType"):
        parity.compare(nn.Linear(3, 2), None, inputs=[(4, 3)])
    with pytest.raises(TypeError, match="the torch side comes first, and the JAX function second"):
        parity.compare(linear, nn.Linear(3, 2), inputs=[(4, 3)])


def test_one_output_too_many():
    module = nn.Linear(3, 2)
    report = parity.compare(module, lambda p, x: (linear(p, x), 1), inputs=[(4, 3)])
    assert not report.passed
    assert report.headline == "the outputs are not torch's (output 1: unexpected)"


def test_errors_of_outputs():
    class Odd(nn.Module):
        def forward(self, x):
            return {"y": x, "config": "fast"}

    refused(TypeError, "torch's output config is a str: let a function or module around it return",
            module=Odd())  # fmt: skip
    refused(ValueError, "torch returns no tensor", module=lambda p, x: None, params={})


# The command.

FILE = """
import torch
from beside import port as function

def port():
    torch.manual_seed(0)
    return {"torch": torch.nn.Linear(3, 2), "jax": function, "inputs": [(4, 3)], "outputs": ["out"]}

def off():
    return port() | {"jax": lambda params, x: function(params, x) * 1.001}

def short():
    return {"torch": torch.nn.Linear(3, 2)}

def dropping():
    return port() | {"torch": torch.nn.Sequential(torch.nn.Dropout(0.5))}
"""
BESIDE = "def port(params, x): return x @ params['weight'].T + params['bias']"


@pytest.fixture
def file(tmp_path, monkeypatch):
    (tmp_path / "beside.py").write_text(BESIDE)
    (tmp_path / "mine.py").write_text(FILE)
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    return str(tmp_path / "mine.py")


def test_the_command(capsys, file, tmp_path):
    assert main(["compare", file]) == 0
    assert capsys.readouterr().out.startswith("Linear and port: 4 of 4 tensors agree\n")
    written = tmp_path / "report.json", tmp_path / "report.html"
    options = ["--json", str(written[0]), "--html", str(written[1]), "--dtype", "float32"]
    assert main(["compare", f"{file}:off", *options]) == 1
    out = capsys.readouterr().out
    assert "first: out, batch row" in out
    assert json.loads(written[0].read_text())["about"]["dtype"] == "float32"
    assert "4 of 4 tensors differ" in written[1].read_text()


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{}:nothing", "mine.py defines no function `nothing`"),
        ("{}:short", "the dict of `short` has no 'jax'"),
        ("{}:dropping", "call `.eval()` on the module"),
        ("no{}", "there is no file no"),
    ],
)
def test_errors_of_the_command(capsys, file, source, message):
    with pytest.raises(SystemExit) as exit:
        main(["compare", source.format(file)])
    assert exit.value.code == 2
    assert message in " ".join(capsys.readouterr().err.split())
