"""The options that the case table must have for every kind of layer and cell, by name."""


def kind(case):
    s = case.structure
    return s.kind, case.nonlinearity, bool(s.proj_size)


WANTED = {
    "bias": lambda c: c.structure.bias,
    "no bias": lambda c: not c.structure.bias,
    "no bias, bidirectional, two layers": lambda c: (
        not c.structure.bias and c.structure.bidirectional and c.structure.num_layers == 2
    ),
    "one layer": lambda c: c.structure.num_layers == 1,
    "two layers": lambda c: c.structure.num_layers == 2,
    "three layers": lambda c: c.structure.num_layers == 3,
    "bidirectional": lambda c: c.structure.bidirectional,
    "bidirectional, two layers": lambda c: (
        c.structure.bidirectional and c.structure.num_layers == 2
    ),
    "unbatched": lambda c: c.batch is None and c.state,
    "unbatched, no state": lambda c: c.batch is None and not c.state,
    "unbatched, batch first": lambda c: c.batch is None and c.batch_first,
    "unbatched, lengths": lambda c: c.batch is None and c.lengths,
    "batch first": lambda c: c.batch_first and c.batch and c.state,
    "batch first, no state": lambda c: c.batch_first and c.batch and not c.state,
    "lengths, batch first": lambda c: c.lengths and c.batch_first and c.batch,
    "lengths, no state": lambda c: c.lengths and c.batch and not c.state,
    "lengths, bidirectional": lambda c: c.lengths and c.batch and c.structure.bidirectional,
    "dropout": lambda c: 0 < c.dropout < 1,
    "dropout, lengths": lambda c: 0 < c.dropout < 1 and c.lengths,
    "one step": lambda c: c.time == 1,
    "one sequence": lambda c: c.batch == 1,
    "no sequence": lambda c: c.batch == 0,
    "many steps": lambda c: c.time >= 100,
    "only y": lambda c: c.cotangents == ("y",),
    "only h_n": lambda c: c.cotangents == ("h_n",),
    "second order": lambda c: c.second_order,
    "second order, lengths": lambda c: c.second_order and c.lengths,
    "bfloat16": lambda c: "bfloat16" in c.dtypes,
    "bfloat16, lengths": lambda c: "bfloat16" in c.dtypes and c.lengths,
}

CELL_WANTED = {
    "bias": lambda c: c.structure.bias,
    "no bias": lambda c: not c.structure.bias,
    "state": lambda c: c.batch and c.state,
    "no state": lambda c: c.batch and not c.state,
    "unbatched": lambda c: c.batch is None and c.state,
    "unbatched, no state": lambda c: c.batch is None and not c.state,
    "second order": lambda c: c.second_order,
    "bfloat16": lambda c: "bfloat16" in c.dtypes,
}
