"""What `diagnose` and its command refuse, and what a port raises."""

import numpy as np
import pytest
import torch
from helpers import assert_refused

from parity import diagnose
from parity.__main__ import main
from parity.mutants.ports.layer import ONE, numbers


_, WEIGHTS, INPUTS = numbers("refused", ONE)
Y = {"y": np.zeros((2, 2, 2), np.float32)}
x = INPUTS["x"]
REFUSED = {
    "no x": (WEIGHTS, {}, Y, {}, ValueError, "`inputs` has nothing: it may have x"),
    "unknown input": (
        WEIGHTS, {"x": x, "h": x}, Y, {}, ValueError, "`inputs` has 'h': it may have x, h0"
    ),
    "no outputs": (WEIGHTS, {"x": x}, {}, {}, ValueError, "`outputs` has nothing: it may"),
    "unknown output": (WEIGHTS, {"x": x}, {"h": x}, {}, ValueError, "`outputs` has 'h'"),
    "no function": (WEIGHTS, {"x": x}, 3, {}, TypeError, "`outputs` must be a dict ... int"),
    "features": (
        WEIGHTS, {"x": x[..., :2]}, Y, {}, ValueError, "`x` has shape ... as the weights"
    ),
    "axes": (WEIGHTS, {"x": x[0, 0]}, Y, {}, ValueError, "wanted 2 or 3 axes"),
    "h0 alone": (
        WEIGHTS, {"x": x, "h0": INPUTS["h0"]}, Y, {}, ValueError, "'h0' but no 'c0'"
    ),
    "h0's shape": (
        WEIGHTS, INPUTS | {"h0": INPUTS["h0"][0]}, Y, {}, ValueError,
        "`h0` has shape ... wanted (1, ",
    ),
    "lengths": (
        WEIGHTS, {"x": x, "lengths": np.array([99] * x.shape[1])}, Y, {}, ValueError,
        "`lengths` must be ... whole numbers from 0 to",
    ),
    "masks without a rate": (
        WEIGHTS, {"x": x, "masks": np.ones((0, 2), bool)}, Y, {}, ValueError,
        "`masks` must be booleans ... dropout=0.0",
    ),
    "nonlinearity": (
        WEIGHTS, {"x": x}, Y, {"nonlinearity": "selu"}, ValueError,
        "`nonlinearity` must be 'tanh' or 'relu', got 'selu'",
    ),
    "a module": (torch.nn.LSTM(3, 4), {"x": x}, Y, {}, TypeError, "`weights` must be a dict, got"),
    "an array": (WEIGHTS, x, Y, {}, TypeError, "`inputs` must be a dict, got a ndarray"),
    "no c": (
        {n: a[: len(a) // 4 * 3] for n, a in WEIGHTS.items()}, {"x": x}, {"cn": x}, {},
        ValueError, "`outputs` has cn, but a GRU has y and hn",
    ),
    "a cell's lengths": (
        {n[:-3]: a for n, a in WEIGHTS.items()}, {"x": x[0], "lengths": np.array([1])},
        {"hn": x}, {}, ValueError, "a cell takes no `batch_first`",
    ),
    "words": (WEIGHTS, {"x": np.array(["a"])}, Y, {}, TypeError, "must be an array of num"),
    "no weights": ({}, {"x": x}, Y, {}, ValueError, "`params` has no `weight_ih`"),
    "half precision": (
        WEIGHTS, {"x": x.astype(np.float16)}, Y, {}, TypeError, "`x` has numbers of float16"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_bad_arguments(name):
    weights, inputs, outputs, options, error, message = REFUSED[name]
    assert_refused(lambda: diagnose(None, weights, inputs, outputs, **options), error, message)


def test_a_port_that_returns_something_else():
    port = lambda weights, **inputs: {"z": inputs["x"]}
    message = "the port returned z: wanted (y, hn), (y, (hn, cn)) ... some of y, hn, cn"
    assert_refused(lambda: diagnose(None, WEIGHTS, INPUTS, port), ValueError, message)


def test_command_refuses(tmp_path, capsys):
    def refused(*arguments):
        with pytest.raises(SystemExit) as exit:
            main(["diagnose", *map(str, arguments)])
        assert exit.value.code == 2
        return " ".join(capsys.readouterr().err.partition("error: ")[2].split())

    assert "names no file" in refused(tmp_path / "none.npz")
    np.savez(tmp_path / "empty.npz", x=x)
    assert "has no weights: save them as 'w/weight_ih_l0'" in refused(tmp_path / "empty.npz")
    np.savez(tmp_path / "other.npz", x=x, z=x)
    assert "has 'z': it may have w/<torch name>, loaded/<torch name>, x" in refused(
        tmp_path / "other.npz"
    )
    folder = tmp_path / "no" / "report.json"
    assert "there is no such folder" in refused(tmp_path / "other.npz", "--json", folder)


def test_what_a_port_raises_is_passed_on():
    def port(weights, x):
        raise KeyError("kernel")

    with pytest.raises(KeyError, match="kernel") as caught:
        diagnose(None, WEIGHTS, {"x": x}, port)
    assert "raised by the port, which was called as port(weights, x=float32[" in str(
        caught.value.__notes__
    )
