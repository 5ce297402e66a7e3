"""Reports what `diagnose` found, for people and for programs."""

import json
import re
from typing import NamedTuple

from ..criterion import Verdict
from ..report.blocks import plain_block, ratio, text_table, worst_blocks
from ..report.tables import TRUTH_OF_LAYERS, versions, versions_line
from .call import OUTPUTS
from .predict import Explanation
from .problem import Problem
from .script import module


def with_users_names(text: str) -> str:
    """Names states as users do: h0, and not torch's h_0."""
    return re.sub(r"\b([hc])_([0n])\b", r"\1\2", text)


class Diagnosis(NamedTuple):
    """The report on a port of a recurrent layer.

    Attributes:
        problem: the layer, the numbers and the port's results.
        verdict: "agrees", "named" (a convention explains it), "precision" or "unknown".
        torch: how the port's results stand to torch's, tensor by tensor, by the criterion.
        slack: a further factor on what is allowed, where gates are saturated.
        where: the first place that is wrong.
        patterns: what the difference looks like.
        explanations: those that leave no more than rounding; several are tied.
        tried: how much was.
    """

    problem: Problem
    verdict: str
    torch: Verdict
    slack: float
    where: list[str]
    patterns: list[str]
    explanations: list[Explanation]
    tried: str

    @property
    def passed(self) -> bool:
        """Whether all agrees, and all could be judged."""
        return self.verdict == "agrees" and not self.torch.unjudged

    def __str__(self) -> str:
        changes = [c.change for each in self.explanations[:1] for c in each.conventions]
        parts = {
            "inputs": self.problem.notes or ["nothing unusual"],
            "verdict": [_VERDICTS[self.verdict, self.passed], *_table(self.torch)],
            "where": self.where,
            "looks like": self.patterns,
            "what": self._what(),
            "change": list(dict.fromkeys(changes)),
        }
        if self.slack > 1:
            parts["verdict"].append(
                f"allowed × {self.slack:.1f}: gates are saturated, and XLA's tanh strays that much "
                "further than torch's here"
            )
        lines = [_about(self.problem), versions_line("cpu", _truth(self.problem))]
        for name, entries in parts.items():
            lines += [f"{name if i == 0 else '':<11}{entry}" for i, entry in enumerate(entries)]
        return with_users_names("\n".join(line.rstrip() for line in lines))

    def _what(self) -> list[str]:
        if self.verdict == "agrees":
            return []
        if not self.explanations:
            lines = [f"none of what is known explains it ({self.tried})"]
            if self.verdict == "precision":
                lines.append("what is wrong has the size of rounding: precision, or a small slip")
            return lines
        first, *ties = self.explanations
        worst = first.worst
        lines = [f"the port {convention.what}" for convention in first.conventions]
        if any(convention.slot == "precision" for convention in first.conventions):
            lines.append("what is left is of the size that such rounding has, and no formula's")
        else:
            lines.append(
                f"with that, what is left is {worst.error:.1e} of {worst.allowed:.1e} allowed, in "
                f"{worst.tensor} {worst.label}".rstrip()
            )
        if not first.gradients:
            lines.append("this explains the outputs; some gradients are wrong besides")
        return lines + [f"as well explained: the port {tie}" for tie in ties]

    def to_json(self) -> str:
        """Returns everything but the arrays; what is infinite or no number is null."""
        plain = {
            "about": _about(self.problem),
            "versions": versions("cpu", _truth(self.problem)),
            "inputs": self.problem.notes,
            "verdict": self.verdict,
            "wrong": self.torch.wrong,
            "unjudged": self.torch.unjudged,
            "slack": self.slack,
            "tensors": [plain_block(b) for b in worst_blocks(self.torch.blocks).values()],
            "where": self.where,
            "patterns": self.patterns,
            "explanations": [
                {
                    "conventions": [convention.what for convention in each.conventions],
                    "changes": [convention.change for convention in each.conventions],
                    "left": plain_block(each.worst),
                    "gradients": each.gradients,
                }
                for each in self.explanations
            ],
            "tried": self.tried,
        }
        return with_users_names(json.dumps(plain, indent=1, allow_nan=False))


_VERDICTS = {
    ("agrees", True): "the port agrees with torch",
    ("agrees", False): "the port agrees with torch, as far as that can be judged",
    ("named", False): "the port DISAGREES with torch",
    ("precision", False): "the port DISAGREES with torch, as far as precision goes",
    ("unknown", False): "the port DISAGREES with torch",
}


def _about(problem: Problem) -> str:
    case = problem.case
    words = [problem.dtype, f"x {list(problem.data.leaves['x'].shape)}"]
    words += ["batch first"] if case.batch_first else []
    words += ["initial state"] if case.state else []
    words += [f"lengths {list(case.lengths)}"] if case.lengths is not None else []
    compared = [name for name, key in OUTPUTS.items() if key in problem.results]
    compared += ["gradients"] if problem.port is not None else []
    words += [f"compared: {', '.join(compared)}"]
    return f"{module(problem)}: {', '.join(words)}"


def _truth(problem: Problem) -> str:
    return TRUTH_OF_LAYERS if problem.dtype == "float64" else "numpy float64"


def _table(verdict: Verdict) -> list[str]:
    """Returns a line for each tensor that could be compared, and for each that could not."""
    rows = [("tensor", "part", "error", "torch's own", "ratio", "allowed", "worst at")]
    for block in worst_blocks(verdict.blocks).values():
        error, own, allowed = (f"{size:.1e}" for size in (block.error, block.own, block.allowed))
        figures = (error, own, ratio(block.error, block.own), allowed)
        mark = "  WRONG" if block.used > 1 else ""
        rows.append((block.tensor, block.label, *figures, f"{list(block.worst)}{mark}"))
    known = {str(block) for block in verdict.blocks}
    other = [line for line in verdict.wrong if line not in known]
    return text_table(rows) + other + [f"not compared: {name}" for name in verdict.unjudged]
