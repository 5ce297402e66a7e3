"""Judges one set of tensors by another's own error; knows neither framework.

Both sides are measured against the truth, a computation of higher precision. The allowance is no
constant: it is torch's own distance from the truth, on the case itself and on copies of it whose
inputs are moved by an ulp, so it knows how well-conditioned the case is. The judgement is made
block by block (gate, layer, direction, time step): no small wrong part hides in a large right one.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np


Arrays = dict[str, np.ndarray]

WHOLE = (5, 4)  # a tensor may be off by 5 · torch's own error + 4 eps
PART = (10, 8)  # one of its blocks by 10 · own + 8 eps
ILL_CONDITIONED = 1e4  # times eps: torch's own error beyond which there is nothing to compare


class Cut(NamedTuple):
    """How a tensor falls into blocks: along `axis`, one for each label."""

    axis: int
    labels: list[str]
    batch_axis: int | None = None


class Block(NamedTuple):
    """One judgement: relative rms errors of both sides, what was allowed, and the worst place."""

    tensor: str
    label: str
    error: float
    own: float
    allowed: float
    worst: tuple[int, ...]
    row: int | None

    @property
    def used(self) -> float:
        """The part of the allowance that was used; more than 1 is a failure."""
        used = self.error / self.allowed
        return np.inf if np.isnan(used) else used  # what cannot be judged has not passed

    def __str__(self) -> str:
        place = [self.tensor, self.label, "" if self.row is None else f"batch row {self.row}"]
        return (
            f"{', '.join(word for word in place if word)}: error {self.error:.1e}, torch's own "
            f"{self.own:.1e}, allowed {self.allowed:.1e}, worst at index {list(self.worst)}"
        )


class Verdict(NamedTuple):
    """All blocks, in order, with each tensor before its parts; and everything that is wrong.

    `unjudged` names what could not be compared: tensors that are not finite in torch either, or of
    which torch itself has no digits left because an ulp in the inputs takes them all away. A case
    with any has not passed in full.
    """

    blocks: list[Block]
    wrong: list[str]
    unjudged: list[str]

    @property
    def worst(self) -> Block:
        """The block that used most of its allowance."""
        nothing = Block("nothing", "", 0.0, 0.0, np.inf, (), None)
        return max(self.blocks, key=lambda block: block.used, default=nothing)

    @property
    def wrong_tensors(self) -> set[str]:
        """The names of the tensors in which anything is wrong."""
        return {re.split("[:,]", line, maxsplit=1)[0] for line in self.wrong}


def judge(
    truth: Arrays,
    torch_runs: Sequence[Arrays],
    jax: Arrays,
    cut: Callable[[str], Cut],
    eps: float,
    slack: float = 1.0,
) -> Verdict:
    """Judges tensors by name.

    Args:
        truth: tensors of a higher precision.
        torch_runs: torch's: the plain run, then runs with every input moved by up to an ulp.
        jax: the tensors to be judged.
        cut: how the tensor of a name falls into blocks.
        eps: the distance from 1 to the next number in the dtype that is compared.
        slack: a further factor on the allowance.
    """
    limit = ILL_CONDITIONED * eps
    wrong = [f"{name}: unexpected" for name in jax if name not in torch_runs[0]]
    unjudged: list[str] = []
    judged: list[Block] = []
    for name in torch_runs[0]:
        runs = [run[name] for run in torch_runs]
        if exact := _exact(name, truth[name], runs, jax.get(name)):
            wrong += exact
            if _measurable(jax.get(name), runs[0]):  # for tables and pictures
                judged += _blocks(name, truth[name], runs, jax[name], cut(name), eps, slack)
            continue
        if not (np.isfinite(runs[0]).all() and np.isfinite(truth[name]).all()):
            unjudged.append(f"{name} (not finite)")
            continue
        blocks = list(_blocks(name, truth[name], runs, jax[name], cut(name), eps, slack))
        if blocks and blocks[0].own > limit:
            strayed, spread = _conditioning(truth[name], runs)
            if slack == 1 and strayed > limit and spread < strayed / 100:
                wrong.append(
                    f"{name}: torch itself is {strayed:.1e} from the truth, of which moving its "
                    f"inputs by an ulp explains {spread:.1e}"
                )
                continue
            # Forward in time the digits are lost one after the other: the first steps have theirs.
            forward = cut(name).labels[:1] == ["step 0"] and not name.startswith("grad ")
            steps = blocks[1:] if forward else []
            kept = next((t for t, block in enumerate(steps) if block.own > limit), len(steps))
            blocks = steps[:kept]
            unjudged.append(f"{name} from step {kept} on" if kept else name)
        judged += blocks
        if bad := [block for block in blocks if block.used > 1]:
            # Rather the first block than the whole tensor, which comes before them.
            wrong.append(str(next((block for block in bad if block.label), bad[0])))
    return Verdict(judged, wrong, unjudged)


def _exact(
    name: str, truth: np.ndarray, runs: list[np.ndarray], jax: np.ndarray | None
) -> list[str]:
    """What has to agree by no tolerance at all."""
    plain = runs[0]
    if jax is None:
        return [f"{name}: missing"]
    if (jax.dtype, jax.shape) != (plain.dtype, plain.shape):
        return [f"{name}: {jax.dtype}{list(jax.shape)}, wanted {plain.dtype}{list(plain.shape)}"]
    loose = np.isfinite(jax) & np.isfinite(plain) & (plain.dtype.kind not in "biu")
    if np.any(bad := ~loose & (jax != plain) & ~(np.isnan(jax) & np.isnan(plain))):
        return [f"{name}: {jax[bad][0]} where torch has {plain[bad][0]}, at {_first(bad)}"]
    zero = np.all([run == 0 for run in [truth, *runs]], axis=0)
    if np.any(bad := zero & (jax != 0)):
        return [f"{name}: must be exactly 0 at {_first(bad)}, got {jax[bad][0]}"]
    return []


def _measurable(jax: np.ndarray | None, plain: np.ndarray) -> bool:
    """Whether it has an error, though it is wrong without one."""
    if jax is None or (jax.dtype, jax.shape) != (plain.dtype, plain.shape):
        return False
    return plain.dtype.kind not in "biu" and bool((np.isfinite(jax) & np.isfinite(plain)).all())


def _first(mask: np.ndarray) -> list[int]:
    return [int(i) for i in np.argwhere(mask)[0]]


def _conditioning(truth: np.ndarray, runs: list[np.ndarray]) -> tuple[float, float]:
    """How far torch is from the truth, and its own runs from one another, relative to the truth."""
    plain, *moved = (run.astype(np.longdouble) for run in runs)
    scale = rms(truth) or 1.0
    spread = rms(np.array([run - plain for run in moved])) if moved else 0.0
    return float(rms(plain - truth) / scale), float(spread / scale)


def _blocks(
    name: str,
    truth: np.ndarray,
    runs: list[np.ndarray],
    jax: np.ndarray,
    cut: Cut,
    eps: float,
    slack: float,
) -> Iterator[Block]:
    """The whole tensor, then its blocks in order."""
    error = np.abs(jax.astype(np.longdouble) - truth)
    own = np.sqrt(np.mean([(run.astype(np.longdouble) - truth) ** 2 for run in runs], axis=0))
    for k, at in enumerate(parts(truth.shape, cut)):
        if error[at].size == 0:
            continue
        scale = rms(truth[at]) or 1.0
        factor, floor = PART if k else WHOLE
        worst = np.unravel_index(int(np.argmax(error[at])), error[at].shape)
        index = [int(i) + (part.start or 0) for i, part in zip(worst, at, strict=True)]
        yield Block(
            name,
            cut.labels[k - 1] if k else "",
            float(rms(error[at]) / scale),
            float(rms(own[at]) / scale),
            float(slack * (factor * rms(own[at]) / scale + floor * eps)),
            tuple(index),
            None if cut.batch_axis is None else index[cut.batch_axis],
        )


def parts(shape: Sequence[int], cut: Cut) -> list[tuple[slice, ...]]:
    """Where a whole tensor lies, and where each of its blocks, if there are several."""
    whole = [slice(None)] * len(shape)
    if len(cut.labels) < 2:
        return [tuple(whole)]
    size = shape[cut.axis] // len(cut.labels)
    block = lambda k: [*whole[: cut.axis], slice(k * size, (k + 1) * size), *whole[cut.axis + 1 :]]
    return [tuple(whole), *(tuple(block(k)) for k in range(len(cut.labels)))]


def rms(a: np.ndarray) -> np.floating:
    return np.sqrt(np.mean(np.square(a))) if a.size else np.float64(0)
