"""Plans and reports as JSON, by schemas/plan.json and schemas/report.json. Pure."""

from collections.abc import Sequence
from typing import Any

from provider.errors import Origin
from provider.model.ids import InstanceId
from provider.model.plan import SCHEMA, Action, Change, Need, Plan, Verb
from provider.model.tree import Tree
from provider.planning.report import Failure, Report, Result, plan_report

REPORT_SCHEMA = "bayplan/report/v1alpha1"


def plan_json(plan: Plan, *, revision: int | None = None) -> Tree:
    """Return *plan* as a JSON document; *revision* is that of the last apply."""
    report = plan_report(plan, revision=revision)
    return {
        "schema": SCHEMA,
        "project": plan.project,
        "changed": report.changed,
        "failed": report.failed,
        "fingerprint": plan.fingerprint,
        "revision": revision,
        "hosts": list(report.hosts),
        "summary": report.summary,
        "resources": [_planned(action, changed=action.verb is not Verb.NOOP) for action in plan],
        "kept": list(plan.kept),
        "refusals": list(plan.refusals),
        "warnings": list(plan.warnings),
    }


def report_json(report: Report) -> Tree:
    """Return *report* as a JSON document."""
    return {
        "schema": REPORT_SCHEMA,
        "project": report.project,
        "changed": report.changed,
        "failed": report.failed,
        "interrupted": report.interrupted,
        "revision": report.revision,
        "hosts": list(report.hosts),
        "summary": report.summary,
        "resources": [_resource(result) for result in report.results],
        "kept": list(report.kept),
        "refusals": list(report.refusals),
        "warnings": list(report.warnings),
        "errors": [_error(error) for error in report.errors],
    }


def failure_json(project: str | None, errors: Sequence[Failure]) -> Tree:
    """Return the report of a run that did not get as far as acting."""
    report = report_json(Report(project=project or "", results=(), errors=tuple(errors)))
    return report | {"project": project, "failed": True}


def _resource(result: Result) -> Tree:
    return {
        **_planned(result.action, changed=result.changed),
        "outcome": str(result.fate),
        "error": _error(result.failure) if result.failure else None,
        "durationMs": round(result.duration_s * 1000, 1),
    }


def _planned(action: Action, *, changed: bool) -> Tree:
    document: dict[str, Any] = {
        "id": str(action.id),
        **_identity(action.id),
        "action": str(action.verb),
        "consequence": str(action.consequence),
        "changed": changed,
        "reason": action.reason,
        "source": _source(action.origin),
        "diff": [_change(change) for change in action.changes],
        "warnings": list(action.warnings),
    }
    if action.renamed_from:
        document["renamedFrom"] = str(action.renamed_from)
    if action.takes_over:
        document["takesOver"] = list(action.takes_over)
    if action.needs:
        document["needs"] = [_need(need) for need in action.needs]
    return document


def _identity(instance: InstanceId) -> Tree:
    return {
        "project": instance.resource.project,
        "kind": str(instance.resource.kind),
        "name": instance.resource.name,
        "host": instance.host,
        "index": instance.index if instance.index >= 0 else None,
    }


def _change(change: Change) -> Tree:
    document: dict[str, Any] = {
        "path": change.path,
        "before": change.before,
        "after": change.after,
        "sensitive": change.sensitive,
        "provenance": change.provenance,
        "consequence": str(change.consequence),
        "source": _source(change.origin),
    }
    if change.cause:
        document |= {"cause": change.cause, "effects": list(change.effects)}
    return document


def _need(need: Need) -> Tree:
    return {
        "id": str(need.target),
        "condition": str(need.condition),
        "timeoutS": need.timeout_s,
    }


def _source(origin: Origin | None) -> Tree | None:
    if origin is None:
        return None
    place = {"file": origin.path, "line": origin.line, "column": origin.column}
    return place | ({"note": origin.note} if origin.note else {})


def _error(failure: Failure) -> Tree:
    document: dict[str, Any] = {
        "code": failure.code,
        "message": failure.message,
        "path": failure.path,
        "retryable": failure.retryable,
    }
    if failure.hint:
        document["hint"] = failure.hint
    if failure.log_tail:
        document["logTail"] = list(failure.log_tail)
    if failure.origin:
        document["source"] = _source(failure.origin)
    return document
