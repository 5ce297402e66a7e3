"""Runs the README's recipe for several devices, as one of its processes.

`python tests/training/parallel.py PROCESS PROCESSES PORT FOLDER` pickles its results into FOLDER.
The environment variable JAX_NUM_CPU_DEVICES says how many devices a process has.
"""

import functools
import pathlib
import pickle
import re
import shutil
import sys

import jax
import numpy as np
from jax.experimental.multihost_utils import sync_global_devices

from jaxrnn import losses, models, optim, training


README = pathlib.Path(__file__).parents[2] / "README.md"
ROWS, TIME, VOCAB, CLASSES = 16, 9, 20, 3


def task(process=0, processes=1):
    """Returns the names that the recipe uses; of each batch, the rows of one process."""
    rng = np.random.default_rng(0)
    init = lambda key: models.init_sequence_model(key, "rnn", 6, 5, CLASSES, vocab_size=VOCAB)
    shapes = jax.eval_shape(init, jax.random.key(0))  # drawing would compile a program for each

    def loss(params, ids, lengths, labels, key=None):
        options = {"lengths": lengths, "head_dropout": 0.5, "key": key}
        return losses.cross_entropy(models.sequence_model(params, ids, **options)[0], labels)

    def batches(epoch):
        rng = np.random.default_rng(epoch)
        for _ in range(3):
            ids = rng.integers(1, VOCAB, (ROWS, TIME))
            lengths, labels = rng.integers(0, TIME + 1, ROWS), rng.integers(0, CLASSES, ROWS)
            labels[[0, 3, 7]] = -100  # ignored: so the mean of devices' means is not the mean
            yield tuple(np.split(a, processes)[process] for a in (ids, lengths, labels))

    params = jax.tree.map(lambda a: rng.uniform(-0.5, 0.5, a.shape), shapes)
    return {"params": params, "loss": loss, "batches": batches}


def work(loss, params, batch):
    """Returns one device's operations in a step, and how often it sums with the others."""
    optimizer = optim.adam(1e-2)
    step = training.train_step(loss, optimizer)
    compiled = step.lower(params, optimizer.init(params), *batch, key=jax.random.key(0)).compile()
    flops, sums = compiled.cost_analysis()["flops"], compiled.as_text().count(" all-reduce(")
    return {"flops": flops, "sums": sums}


def main(process, processes, port, folder):
    if processes > 1:
        address = f"127.0.0.1:{port}"
        jax.distributed.initialize(address, processes, process, initialization_timeout=60)
    [recipe] = re.findall(
        r"# More than one device\n.*?```python\n(.*?)```", README.read_text(), re.DOTALL
    )
    programs = []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, *_, **about: (
            programs.append(about.get("fun_name") or "") if "backend_compile" in event else None
        )
    )
    # All processes share the checkpoints.
    checkpoints = pathlib.Path(folder, "checkpoints")
    fit = functools.partial(training.fit, checkpoints=checkpoints)
    names = {"jax": jax, "fit": fit, "optim": optim} | task(process, processes)
    exec(recipe, names)
    fitted, steps = names["fitted"], [name for name in programs if "step" in name]
    batch = next(names["placed"](0))
    # As if interrupted after the first epoch.
    sync_global_devices("all checkpoints are written")
    if process == 0:
        shutil.rmtree(checkpoints / "6")
    sync_global_devices("the last checkpoint is removed")
    resumed = fit(
        names["loss"], optim.adam, names["start"], names["placed"], epochs=2, lr=1e-2,
        key=jax.random.key(1),
    )  # fmt: skip
    results = {
        "fitted": jax.tree.map(np.asarray, fitted),
        "resumed": jax.tree.map(np.asarray, resumed),
        "programs": steps,
        "whole": all(a.sharding.is_fully_replicated for a in jax.tree.leaves(fitted.params)),
        "rows": [shard.data.shape[0] for a in batch for shard in a.addressable_shards],
        "work": work(names["loss"], fitted.params, batch),
    }
    pathlib.Path(folder, f"{process}").write_bytes(pickle.dumps(results))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
