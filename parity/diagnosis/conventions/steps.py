"""Conventions of a single step."""

from collections.abc import Iterator

from ...cases import Case
from .convention import Convention, each


def steps(case: Case) -> Iterator[Convention]:
    s = case.structure
    act = case.nonlinearity if s.gates == 1 else "tanh"
    others = [n for n in ("relu", "tanh", "identity", "sigmoid", "hard tanh") if n != act]
    candidates = {name: {"candidate": name} for name in others}
    if s.gates == 1:
        change = f"h' = {act}(…); torch has tanh and relu, by nonlinearity="
        ways = {f"has {name} for {act}": how for name, how in candidates.items()}
        yield from each("candidate", change, "how", ways)
        return
    if s.gates == 3:
        yield Convention(
            "resets h before the product with W_hn (keras' reset_after=False, haiku, ONNX)",
            "reset",
            "n = tanh(W_in x + b_in + r * (W_hn h + b_hn)); no weights make up for it",
            {"reset": "before"},
        )
        yield Convention(
            "swaps the roles of z and 1 - z (haiku): h' = (1 - z) h + z n",
            "update",
            "h' = (1 - z) n + z h; or negate the rows of z in every weight and bias",
            {"update": "takes"},
        )
    if s.gates == 4:
        yield Convention(
            "adds 1 to the forget gate (haiku; keras has that in fresh biases only)",
            "forget",
            "nothing is added in torch"
            + ("; or subtract 1 from the rows of f in one of the biases" * s.bias),
            {"forget": 1.0},
        )
        ways = {
            "does not squash c by tanh": {"squash": "identity"},
            "has relu(c) for tanh": {"squash": "relu"},
        }
        yield from each("squash", "h' = o * tanh(c')", "how", ways)
    ways = {
        f"has a hard sigmoid of slope {slope} (keras' hard_sigmoid)": {
            "sigmoid": f"hard, slope {slope}"
        }
        for slope in ("0.2", "1/6")
    }
    yield from each("sigmoid", "sigmoid(a) = 1 / (1 + exp(-a))", "how", ways)
    gate = "g" if s.gates == 4 else "n"
    ways = {
        f"has {name} for tanh in {gate}": candidates[name]
        for name in ("relu", "sigmoid", "identity", "hard tanh")
    }
    yield from each("candidate", f"{gate} = tanh(…)", "how", ways)
    if s.gates == 4:
        yield Convention(
            "has relu for tanh, in g and for c",
            "candidate",
            "g = tanh(…), h' = o * tanh(c')",
            {"candidate": "relu", "squash": "relu"},
        )
