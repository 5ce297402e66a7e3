"""How ports compute a step otherwise."""

from collections.abc import Iterator

from ...cases import Case
from .convention import Convention


def steps(case: Case) -> Iterator[Convention]:
    s = case.structure
    if s.gates == 1:
        for name in ("relu", "tanh", "identity", "sigmoid", "hard tanh"):
            if name != case.nonlinearity:
                yield Convention(
                    f"has {name} for {case.nonlinearity}",
                    "candidate",
                    f"h' = {case.nonlinearity}(…); torch has tanh and relu, by nonlinearity=",
                    {"candidate": name},
                )
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
        for name in ("identity", "relu"):
            without = "does not squash c by tanh" if name == "identity" else "has relu(c) for tanh"
            yield Convention(without, "squash", "h' = o * tanh(c')", {"squash": name})
    for slope in ("0.2", "1/6"):
        yield Convention(
            f"has a hard sigmoid of slope {slope} (keras' hard_sigmoid)",
            "sigmoid",
            "sigmoid(a) = 1 / (1 + exp(-a))",
            {"sigmoid": f"hard, slope {slope}"},
        )
    gate = "g" if s.gates == 4 else "n"
    for name in ("relu", "sigmoid", "identity", "hard tanh"):
        yield Convention(
            f"has {name} for tanh in {gate}", "candidate", f"{gate} = tanh(…)", {"candidate": name}
        )
    if s.gates == 4:
        yield Convention(
            "has relu for tanh, in g and for c",
            "candidate",
            "g = tanh(…), h' = o * tanh(c')",
            {"candidate": "relu", "squash": "relu"},
        )
