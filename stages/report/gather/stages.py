"""What went through each stage, what it warned of, and how, where and when it ran."""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from schemas.manifest import Manifest
from schemas.tables import REJECTS
from stages.report.gather.sources import STAGE_ORDER, Json, Sources


def stages(sources: Sources) -> Json:
    """Every stage by name: its counts, rejects by table and reason, times and fingerprint."""
    return {name: _stage(sources, name) for name in STAGE_ORDER}


def _stage(sources: Sources, name: str) -> Json:
    manifest = sources.manifests.get(name)
    if manifest is None:
        return {"skipped": True}
    return {
        "skipped": False,
        "counts": dict(manifest.counts),
        "rejects": _rejects(sources, name),
        "wall_seconds": manifest.provenance.wall_seconds,
        "cpu_seconds": manifest.provenance.cpu_seconds,
        "peak_rss_bytes": manifest.provenance.peak_rss_bytes,
        "output_bytes": sum(file.size_bytes for file in manifest.outputs.values()),
        "fingerprint": manifest.fingerprint,
        "resumed": manifest.provenance.resumed,
        "started_at": manifest.provenance.started_at,
    }


def _rejects(sources: Sources, name: str) -> list[Json]:
    rows = sources.columns(name, REJECTS, ("table", "reason"))
    counted = Counter((row["table"], row["reason"]) for row in rows)
    return [
        {"table": table, "reason": reason, "rows": n}
        for (table, reason), n in sorted(counted.items(), key=lambda item: (-item[1], item[0]))
    ]


def warnings(sources: Sources) -> list[Json]:
    """What the stages warned of, in their order."""
    return [
        {"stage": name, "message": message}
        for name, manifest in sources.manifests.items()
        for message in manifest.warnings
    ]


def settings(sources: Sources) -> Json:
    """Each stage's settings as flat `path: value`, from the payload it was made of."""
    return {
        name: dict(_flat(manifest.payload.get("config", {})))
        for name, manifest in sources.manifests.items()
    }


def _flat(value: Any, where: str = "") -> list[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        pairs = [(f"{where}.{key}" if where else str(key), inner) for key, inner in value.items()]
    elif isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        pairs = [(f"{where}.{index}", inner) for index, inner in enumerate(value)]
    else:
        return [(where, value)]
    return [leaf for path, inner in pairs for leaf in _flat(inner, path)]


def provenance(sources: Sources) -> Json:
    """Commit, versions and hardware: each distinct value with the stages that ran on it."""
    found = sources.manifests
    return {
        "commit": _distinct(found, lambda m: m.provenance.commit),
        "dirty": any(m.provenance.dirty for m in found.values()),
        "python": _distinct(found, lambda m: m.provenance.python),
        "hardware": _distinct(found, lambda m: _joined(m.provenance.hardware)),
        "command": _distinct(found, lambda m: " ".join(m.provenance.command)),
        "packages": _packages(found),
        "started_at": min((m.provenance.started_at for m in found.values()), default=None),
        "finished_at": max((m.provenance.finished_at for m in found.values()), default=None),
        "wall_seconds": sum(m.provenance.wall_seconds for m in found.values()),
    }


def _distinct(manifests: Mapping[str, Manifest], value_of: Callable[[Manifest], Any]) -> list[Json]:
    groups: dict[Any, list[str]] = {}
    for name, manifest in manifests.items():
        groups.setdefault(value_of(manifest), []).append(name)
    return [{"value": value, "stages": names} for value, names in groups.items()]


def _joined(facts: Mapping[str, str | int]) -> str:
    return ", ".join(
        f"{value} {name}" if isinstance(value, int) else str(value) for name, value in facts.items()
    )


def _packages(manifests: Mapping[str, Manifest]) -> dict[str, str]:
    """Versions by package; several, joined, where stages ran with different ones."""
    versions: dict[str, set[str]] = {}
    for manifest in manifests.values():
        for package, version in manifest.provenance.packages.items():
            versions.setdefault(package, set()).add(version)
    return {package: ", ".join(sorted(versions[package])) for package in sorted(versions)}
