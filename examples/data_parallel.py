"""The speakers' classifier once more, on one device, on several, and in several processes.

The idea: the same step trains in all three settings. Parameters are whole on every device, batches
are split over them, and XLA adds up the gradients; so the losses are those of one device, dropout
included. Every run is saved, and compared with the others in the folder:

    python examples/data_parallel.py                            # every GPU or TPU core, or one CPU
    python examples/data_parallel.py --devices 4                # a CPU as four devices
    python examples/data_parallel.py --devices 2 --processes 2  # two processes, started here

Over several machines, the same command on each, with `--process` and the first one's `--address`.
(CPU devices share the same cores: here nothing is gained but the proof.)
"""

import pathlib
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

import jax
import matplotlib.pyplot as plt
import numpy as np
from command import parser, positive, save
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from speakers import CHANNELS, SPEAKERS, load, logits, loss

from jaxrnn import data, models, optim
from jaxrnn.training import fit


BATCH = 24
ALONE = "one device"


def train(epochs: int, data_dir: pathlib.Path | None) -> tuple[np.ndarray, float]:
    """The losses of all steps, and the share of test utterances that is then recognised."""
    (x, lengths, speaker), (test_x, test_lengths, test_speaker) = load(data_dir)
    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    whole, split = NamedSharding(mesh, P()), NamedSharding(mesh, P("data"))

    def batches(epoch):
        for i in data.batches(len(x), BATCH, rng=np.random.default_rng(epoch), drop_last=True):
            i = np.split(i, jax.process_count())[jax.process_index()]  # this process' rows
            yield jax.make_array_from_process_local_data(split, (x[i], lengths[i], speaker[i]))

    params = models.init_sequence_model(
        jax.random.key(0), "lstm", CHANNELS, 100, SPEAKERS, bidirectional=True
    )
    fitted = fit(
        loss,
        optim.adam,
        jax.device_put(params, whole),
        batches,
        epochs=epochs,
        lr=optim.cosine_annealing_lr(3e-3, epochs),
        key=jax.random.key(1),
    )
    answer = jax.jit(logits)(fitted.params, test_x, test_lengths).argmax(-1)
    return fitted.history.loss, np.mean(np.asarray(answer) == test_speaker)


def compare(folder: pathlib.Path, steps: int) -> None:
    """Draws all runs of so many steps, and how far each is from the one on one device."""
    losses = {path.stem: np.load(path) for path in sorted(folder.glob("*.npy"))}
    losses = {name: each for name, each in losses.items() if len(each) == steps}
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for i, (name, each) in enumerate(losses.items()):
        left.semilogy(each, lw=1 + 2 * (len(losses) - 1 - i), label=name)
        if name != ALONE and ALONE in losses:
            off = np.abs(each / losses[ALONE] - 1)
            print(f"{name}: losses differ from those of {ALONE} by {off.max():.0e} at most")
            right.plot(off, color=f"C{i}", label=name)
    left.set(xlabel="step", ylabel="loss (nats)")
    left.legend(frameon=False, fontsize=8)
    right.set(xlabel="step", ylabel=f"relative difference from {ALONE}")
    save(figure, folder / "data_parallel.png")


def main(argv: Sequence[str] | None = None) -> None:
    command = parser(__doc__, folder="out/data_parallel", data=True, epochs=40)
    command.add_argument("--devices", type=positive, help="that the CPU of a process counts as")
    command.add_argument("--processes", type=positive, default=1)
    command.add_argument("--process", type=int, help="which one this is; by default all start here")
    command.add_argument("--address", help="of the first process, such as 10.0.0.1:29400")
    options = command.parse_args(argv)
    if options.processes > 1 and options.process is None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            address = f"127.0.0.1:{free.getsockname()[1]}"
        start = [sys.executable, __file__, *(sys.argv[1:] if argv is None else argv)]
        start += ["--address", address, "--process"]
        running = [subprocess.Popen([*start, str(k)]) for k in range(options.processes)]
        sys.exit(any([each.wait() for each in running]))

    if options.devices:
        jax.config.update("jax_num_cpu_devices", options.devices)
    if options.processes > 1:
        jax.distributed.initialize(options.address, options.processes, options.process)
    if BATCH % jax.device_count():
        sys.exit(
            f"{BATCH} rows of a batch are not to be shared evenly by {jax.device_count()} devices"
        )
    start = time.perf_counter()
    losses, accuracy = train(options.epochs, options.data_dir)
    seconds = time.perf_counter() - start
    if jax.process_index() > 0:
        return
    name = ALONE if jax.device_count() == 1 else f"{jax.device_count()} devices"
    name += f" of {options.processes} processes" if options.processes > 1 else ""
    print(f"{name}: {100 * accuracy:.1f} % of the test utterances right in {seconds:.1f} s")
    np.save(options.folder / f"{name}.npy", losses)
    compare(options.folder, len(losses))


if __name__ == "__main__":
    main()
