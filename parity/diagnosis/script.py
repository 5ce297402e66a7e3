"""A diagnosed problem as a script in torch, for whoever is to look at it next."""

import pathlib

import numpy as np

import jaxrnn

from ..backends.data import output_shapes
from .problem import OUTPUTS, Problem


def write_script(problem: Problem, path: pathlib.Path) -> None:
    """A script that needs torch and numpy only, and beside it its numbers, as `…_numbers.npz`.

    Dropout masks, which torch does not take, need this package too.
    """
    case, found = problem.case, problem.found
    arrays = {
        (f"w/{name}" if name.startswith(("weight", "bias")) else name.replace("_", "")): a
        for name, a in problem.data.leaves.items()
    }
    arrays |= {name: found[key] for name, key in OUTPUTS.items() if key in found}
    if case.lengths is not None:
        arrays["lengths"] = np.array(case.lengths[0] if case.batch is None else case.lengths)
    if problem.data.masks is not None:
        arrays["masks"] = problem.data.masks
    narrow = lambda a: a.astype(np.float32) if a.dtype.name == "bfloat16" else a
    file = path.with_name(f"{path.stem}_numbers.npz")
    jaxrnn.save(file, {name: narrow(a) for name, a in arrays.items()})
    path.write_text(_script(problem, file.name))


def module(problem: Problem) -> str:
    """As torch's users write it."""
    case, s = problem.case, problem.case.structure
    options = {
        "num_layers": s.num_layers,
        "nonlinearity": case.nonlinearity,
        "bias": s.bias,
        "batch_first": case.batch_first,
        "dropout": case.dropout,
        "bidirectional": s.bidirectional,
        "proj_size": s.proj_size,
    }
    usual = {"num_layers": 1, "nonlinearity": "tanh", "bias": True}
    given = [f"{n}={v!r}" for n, v in options.items() if v != usual.get(n, 0)]
    return f"torch.nn.{s.torch_name}({', '.join([str(s.input_size), str(s.hidden_size), *given])})"


def _script(problem: Problem, file: str) -> str:
    case, masked = problem.case, problem.data.masks is not None
    imports = ["import pathlib", "", "import numpy as np", "import torch"]
    rows = dict.fromkeys(OUTPUTS, "")
    names = ["h", "c"][: 2 if case.structure.gates == 4 else 1]
    tree = lambda parts: f"({', '.join(parts)})" if len(parts) == 2 else parts[0]
    final = tree([f"{name}n" for name in names])
    call = ["run = lambda layer, x, state: layer(x, state)"]
    prepare = ['lengths = data["lengths"]'] if case.lengths is not None else []
    if case.cell:
        call = [f"{final} = module(x, state)"]
    elif case.lengths is not None and case.batch is None:
        prepare += ['data["x"] = data["x"][:lengths]']
        prepare += ['data["masks"] = data["masks"][:, :lengths]'] if masked else []
        rows["y"] = "[:lengths]"
    elif case.lengths is not None:
        imports.append("from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence")
        rows = {"y": "[keep]" if case.batch_first else "[:, keep]"}
        rows |= dict.fromkeys(("hn", "cn", "h0", "c0"), "[:, keep]")
        prepare += ["keep = lengths > 0  # torch packs no empty sequence"]
        prepare += [f'data["x"] = data["x"]{rows["y"]}']
        prepare += [f'data["masks"] = data["masks"][:, {rows["y"][1:]}'] if masked else []
        call = [
            f'options = {{"batch_first": {case.batch_first}}}',
            "",
            "",
            "def run(layer, x, state):",
            "    x = pack_padded_sequence(x, lengths[keep], enforce_sorted=False, **options)",
            "    y, state = layer(x, state)",
            f"    return pad_packed_sequence(y, total_length={case.time}, **options)[0], state",
            "",
            "",
        ]
    if masked:  # layer by layer, each of which is given its part of the state
        imports.append("from parity.backends.torch import with_masks")
        own = "state and " + ("tuple(state)" if len(names) == 2 else "state[0]")
        call += [
            f"each = lambda layer, x, state: run(layer, x, {own})",
            f'y, {final} = with_masks(module, each, x, state, data["masks"], {case.dropout})',
        ]
        call[-1] = call[-1].replace(", hn =", ", (hn,) =")
    elif not case.cell:
        call += [f"y, {final} = run(module, x, state)"]
    given = [f'data["{name}0"]{rows.get(f"{name}0", "")}' for name in names]
    start = (f"[{', '.join(given)}]" if masked else tree(given)) if case.state else "None"
    narrow = "a.bfloat16() if a.is_floating_point() else a"  # numpy's files know no bfloat16
    lines = [
        '"""Torch against what a port made of the same numbers; by parity.diagnose."""',
        "",
        *imports,
        "",
        f'file = pathlib.Path(__file__).with_name("{file}")',
        "data = {name: torch.tensor(a) for name, a in np.load(file).items()}",
        *([f"data = {{n: {narrow} for n, a in data.items()}}"] * (problem.dtype == "bfloat16")),
        f"module = {module(problem)}.to(torch.{problem.dtype})",
        'module.load_state_dict({n[2:]: a for n, a in data.items() if n.startswith("w/")})',
        *prepare,
        f'x, state = data["x"], {start}',
        *call,
    ]
    for name in (name for name, key in OUTPUTS.items() if key in problem.found):
        found = f'data["{name}"]{rows.get(name, "")}'
        if problem.found[OUTPUTS[name]].shape == output_shapes(case)[OUTPUTS[name]]:
            lines.append(f'print("{name} is off by", ({found} - {name}).abs().max().item())')
        else:
            lines.append(f'print("{name} is", list({found}.shape), "in torch", list({name}.shape))')
    return "\n".join(lines) + "\n"
