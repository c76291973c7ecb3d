"""What a case of a suite came to, and the table of two runtimes side by side."""

from dataclasses import dataclass

PASSED = "ok"
SKIPPED = "skip"
FAILED = "FAIL"
MISSING = "-"
"""The case was not reached, or is not known to this runtime's run."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one case ended under one runtime."""

    word: str
    reason: str = ""

    @property
    def passed(self) -> bool:
        return self.word == PASSED


Outcomes = dict[str, Outcome]
"""By case, in the order they ran."""


@dataclass(frozen=True, slots=True)
class Row:
    """One case under the peer and under ours."""

    case: str
    peer: Outcome
    ours: Outcome

    @property
    def is_ours_to_mend(self) -> bool:
        """Whether the peer passes what ours does not."""
        return self.peer.passed and not self.ours.passed


def rows(peer: Outcomes, ours: Outcomes) -> list[Row]:
    """Return every case that either run has."""
    none = Outcome(MISSING, "did not run")
    cases = dict.fromkeys((*peer, *ours))
    return [Row(case, peer.get(case, none), ours.get(case, none)) for case in cases]


def table(suite: str, peer: str, found: list[Row]) -> str:
    """Return the rows as Markdown: what differs or fails with its reasons, then the counts."""
    lines = [f"## {suite}", "", f"| case | {peer} | bayplan-oci | why |", "|---|---|---|---|"]
    for row in found:
        reasons = [
            f"{name}: {outcome.reason}"
            for name, outcome in ((peer, row.peer), ("ours", row.ours))
            if outcome.reason and not outcome.passed
        ]
        why = "; ".join(reasons).replace("|", "\\|").replace("\n", " ")
        lines.append(f"| {row.case} | {row.peer.word} | {row.ours.word} | {why} |")
    counts = ", ".join(
        f"{name} passes {sum(o.passed for o in column)} of {len(found)}"
        f" ({sum(o.word == SKIPPED for o in column)} skipped)"
        for name, column in ((peer, [r.peer for r in found]), ("ours", [r.ours for r in found]))
    )
    worse = sum(row.is_ours_to_mend for row in found)
    return "\n".join((*lines, "", f"{suite}: {counts}; {worse} that only {peer} passes", ""))
