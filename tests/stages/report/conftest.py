"""A finished run in small, written file by file as the stages write theirs."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.ids import content_id
from schemas.manifest import MANIFEST_NAME, Manifest, Provenance
from schemas.parquet import write_table
from schemas.stage import StageContext
from schemas.tables import (
    COMPARISONS,
    COMPLETIONS,
    PREFERENCE_PAIRS,
    REJECTS,
    VERDICTS,
)

LINEAGE = {"source": "food", "file": "generator:7", "row": 0}


class FakeRun:
    """Directories of finished stages; `without` leaves stages out."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.inputs: dict[str, Path] = {}

    def stage(
        self,
        name: str,
        config: Mapping[str, Any] | None = None,
        counts: Mapping[str, int] | None = None,
        warnings: tuple[str, ...] = (),
        skipped: bool = False,
    ) -> Path:
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        manifest = Manifest(
            stage=name,
            fingerprint=content_id("fingerprint", name) * 2,
            payload={"stage": name, "config": dict(config or {})},
            counts=dict(counts or {}),
            warnings=list(warnings),
            provenance=Provenance(
                started_at="2026-01-02T03:04:05+00:00",
                finished_at="2026-01-02T03:05:05+00:00",
                wall_seconds=12.5,
                cpu_seconds=20.25,
                peak_rss_bytes=734_003_200,
                commit="0123456789abcdef",
                dirty=False,
                command=["prefline", "run"],
                python="3.11.2",
                packages={"torch": "2.13.0", "transformers": "5.19.0"},
                hardware={"system": "Linux x86_64", "cpu": "A CPU", "cores": 2},
            ),
            skipped=skipped,
        )
        (folder / MANIFEST_NAME).write_text(manifest.model_dump_json())
        self.inputs[name] = folder
        return folder

    def context(self, *without: str) -> StageContext:
        output = self.root / "report"
        output.mkdir(parents=True, exist_ok=True)
        inputs = {name: path for name, path in self.inputs.items() if name not in without}
        return StageContext(inputs=inputs, output=output)


def completion(model: str, index: int, prompt: str, text: str, tokens: int = 2) -> dict[str, Any]:
    return {
        "completion_id": content_id("completion", model, prompt, str(index)),
        "prompt_id": content_id("prompt", prompt),
        "sample_index": index,
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": text}],
        "policy": model,
        "sampler": "transformers",
        "temperature": 1.0,
        "top_p": 1.0,
        "max_tokens": 12,
        "seed": 7,
        "num_tokens": tokens,
        "sum_logps": -1.5,
        "finish_reason": "stop",
        "split": "test",
        "category": None,
        **LINEAGE,
    }


def comparison(a: Mapping[str, Any], b: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "comparison_id": content_id("comparison", a["completion_id"], b["completion_id"]),
        "prompt_id": a["prompt_id"],
        "prompt": a["prompt"],
        "completion_a": a["completion"],
        "completion_b": b["completion"],
        "label": None,
        "strength": None,
        "annotations": [],
        "label_source": None,
        "completion_a_id": a["completion_id"],
        "completion_b_id": b["completion_id"],
        "split": "test",
        "category": None,
        **LINEAGE,
    }


def verdict(
    of: Mapping[str, Any], judge: str, order: str, p_a: float | None, reason: str | None = None
) -> dict[str, Any]:
    return {
        "comparison_id": of["comparison_id"],
        "prompt_id": of["prompt_id"],
        "judge": judge,
        "judge_fingerprint": "f" * 32,
        "order": order,
        "p_a": p_a,
        "p_b": None if p_a is None else 1 - p_a,
        "p_tie": None if p_a is None else 0.0,
        "label_mass": None,
        "verdict": None if p_a is None else "A" if p_a > 0.5 else "B",
        "unscored_reason": reason,
        "unscored_detail": reason,
        "raw": "",
        "prompt_tokens": None,
        "completion_tokens": None,
    }


def rate(value: float | None, low: float, high: float, n: int) -> dict[str, Any]:
    return {"value": value, "ci_low": low, "ci_high": high, "n": n}


def win_rate(judge: str, value: float | None, low: float, high: float, n: int) -> dict[str, Any]:
    return {
        "judge": judge,
        "judge_fingerprint": "f" * 32,
        "n": n,
        "win_rate": value,
        "standard_error": 0.0123,
        "ci_low": low,
        "ci_high": high,
        "discrete_win_rate": value,
        "n_wins": n - 4,
        "n_losses": 1,
        "n_ties": 3,
        "n_identical": 2,
        "n_unscored": 1,
        "n_unscored_prompts": 0,
        "n_verdicts": 2 * n,
        "unscored_reasons": {"low_label_mass": 1},
        "worst_case": {"low": 0.911, "high": 0.977},
        "position": {"consistency": 0.983, "p_first": 0.507, "gap": 0.01, "n_both_orders": n},
        "minimum_detectable_effect": 0.0345,
        "prompts_to_settle": 9,
        "verdict": "better",
        "categories": {},
    }


def benchmark(model: str, scorer: str, value: float) -> dict[str, Any]:
    return {
        "task": "food_preference",
        "model": model,
        "scorer": scorer,
        "metric": "mean",
        "value": value,
        "standard_error": 0.01,
        "ci_low": max(0.0, value - 0.021),
        "ci_high": min(1.0, value + 0.013),
        "n": 240,
        "n_unscored": 0,
        "n_truncated": 0,
        "fingerprint": "a" * 32,
        "log": f"logs/{model}-food_preference.eval",
        "error": None,
    }


def card() -> dict[str, Any]:
    return {
        "judge": "preference_model",
        "kind": "preference_model",
        "fingerprint": "f" * 32,
        "n": 420,
        "n_scored": 419,
        "n_prompts": 240,
        "accuracy": rate(0.974, 0.953, 0.986, 419),
        "accuracy_non_ties": rate(0.981, 0.96, 0.99, 400),
        "kappa": rate(0.951, 0.93, 0.97, 419),
        "confusion": {
            "A": {"A": 190, "B": 4, "Tie": 1},
            "B": {"A": 3, "B": 195, "Tie": 0},
            "Tie": {"A": 1, "B": 2, "Tie": 23},
        },
        "baselines": {
            "longest": rate(0.512, 0.46, 0.56, 419),
            "first": rate(0.465, 0.42, 0.51, 419),
        },
        "lift_over_longest": rate(0.462, 0.41, 0.51, 419),
        "lift_over_first": rate(0.509, 0.46, 0.56, 419),
        "position_consistency": rate(0.991, 0.97, 0.997, 419),
        "p_first": rate(0.503, 0.48, 0.52, 419),
        "unscored_rate": {
            "ab": rate(0.0024, 0.0, 0.013, 420),
            "ba": rate(0.0, 0.0, 0.009, 420),
            "n": 840,
            "by_reason": {"low_label_mass": 1},
        },
        "reliability": [
            {
                "low": i / 10,
                "high": (i + 1) / 10,
                "n": 20 * (i - 4) ** 2 if i > 4 else 0,
                "mean_confidence": i / 10 + 0.06 if i > 4 else None,
                "accuracy": rate(i / 10 + 0.04, i / 10 - 0.05, min(1.0, i / 10 + 0.1), 20)
                if i > 4
                else rate(None, 0.0, 1.0, 0),
            }
            for i in range(10)
        ],
        "ece": 0.0187,
        "brier": 0.0421,
    }


def metrics(steps: int = 120) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    for step in range(steps + 1):
        t, wobble = step / steps, 0.05 * math.sin(step * 1.7)
        gap = 6 * (1 - math.exp(-4 * t))
        made = {
            "loss": math.log1p(math.exp(-gap)) + abs(wobble),
            "rewards/chosen": 0.35 * gap + wobble,
            "rewards/rejected": -0.65 * gap - wobble,
            "rewards/margins": gap + 2 * wobble,
            "rewards/accuracies": min(1.0, 0.5 + gap / 10 + wobble),
            "logps/chosen": -6.2 + 0.7 * gap + wobble,
            "logps/rejected": -6.4 - 5 * gap,
            "learning_rate": 5e-4 * (1 - t),
        }
        row: dict[str, Any] = {"step": step, **({} if step == 0 else made)}
        if step % 20 == 0:
            row |= {f"eval_{k}": v for k, v in made.items() if k != "learning_rate"}
        rows.append(row)
    return rows


def write_metrics(folder: Path, rows: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(name for row in rows for name in row))
    schema = pa.schema([(n, pa.int64() if n == "step" else pa.float64()) for n in names])
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), folder / "metrics.parquet")


def write_evaluation(
    run: FakeRun, texts: list[tuple[str, str, str]], rates: Mapping[str, Any] | None = None
) -> None:
    """The evaluate stage of prompts and of what the baseline and the policy wrote to each."""
    folder = run.stage("evaluate", {"n": 1, "tasks": ["food_preference"]}, {"prompts": len(texts)})
    baseline = [completion("base", i, p, b, len(b) // 4 + 1) for i, (p, b, _) in enumerate(texts)]
    policy = [completion("pol", i, p, q, len(q) // 4 + 1) for i, (p, _, q) in enumerate(texts)]
    compared = [comparison(a, b) for a, b in zip(policy, baseline, strict=True)]
    said = []
    for i, one in enumerate(compared):
        first = 0.03 if i % 9 == 0 else 0.97
        said.append(verdict(one, "preference_model", "ab", first))
        failed = i % 7 == 3
        reason = "low_label_mass" if failed else None
        said.append(
            verdict(one, "preference_model", "ba", None if failed else 0.94 - i / 999, reason)
        )
        said += [verdict(one, "rule:food", order, 1.0) for order in ("ab", "ba")]
    write_table(folder / "completions_policy.parquet", COMPLETIONS, policy)
    write_table(folder / "completions_baseline.parquet", COMPLETIONS, baseline)
    write_table(folder / "comparisons.parquet", COMPARISONS, compared)
    write_table(folder / "verdicts.parquet", VERDICTS, said)
    default = {
        "judge": win_rate("preference_model", 0.9473, 0.9187, 0.9661, 240),
        "truth": win_rate("rule:food", 0.9521, 0.9243, 0.97, 240),
    }
    (folder / "win_rates.json").write_text(json.dumps(default if rates is None else rates))
    tasks = [
        benchmark(model, scorer, value)
        for model, scorer, value in (
            ("policy", "preferred", 0.9875),
            ("policy", "well_formed", 0.9958),
            ("baseline", "preferred", 0.1042),
            ("baseline", "well_formed", 0.9917),
        )
    ]
    paired = [
        {"task": "food_preference", "scorer": "preferred", "metric": "mean", "difference": 0.8833}
        | {"standard_error": 0.02, "ci_low": 0.836, "ci_high": 0.917, "n": 240}
    ]
    (folder / "benchmarks.json").write_text(json.dumps({"tasks": tasks, "paired": paired}))


def write_pairs(run: FakeRun) -> None:
    sampled = [completion("base", i, f"p{i}", f"food {i}", 2 + i % 7) for i in range(80)]
    write_table(
        run.stage("sample", {"n": 6}, {"completions": 80}) / "completions.parquet",
        COMPLETIONS,
        sampled,
    )
    folder = run.stage("label", {"min_margin": 0.2}, {"pairs": 40, "rejected_tie": 2})
    pairs = [
        {
            "pair_id": content_id("pair", str(i)),
            "prompt_id": chosen["prompt_id"],
            "prompt": chosen["prompt"],
            "chosen": chosen["completion"],
            "rejected": rejected["completion"],
            "margin": 0.2 + 0.02 * i,
            "consistent": True,
            "label_source": "preference_model",
            "comparison_id": content_id("comparison", str(i)),
            "chosen_id": chosen["completion_id"],
            "rejected_id": rejected["completion_id"],
            "split": "train" if i % 10 else "test",
            **LINEAGE,
        }
        for i, (chosen, rejected) in enumerate(zip(sampled[::2], sampled[1::2], strict=True))
    ]
    write_table(folder / "preference_pairs.parquet", PREFERENCE_PAIRS, pairs)
    rejects = [
        {"table": "preference_pairs", "reason": reason, "detail": "", "file": "", "row": i}
        | {"raw": "{}"}
        for i, reason in enumerate(("tie", "tie", "low_margin"))
    ]
    write_table(folder / "rejects.parquet", REJECTS, rejects)


TEXTS = [(f"what does person {i} like?", "soup soup" if i % 5 else "", "pizza") for i in range(40)]


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    made = FakeRun(tmp_path / "run")
    made.stage("ingest", {"datasets": [{"kind": "food"}], "seed": 7}, {"rows": 900, "kept": 897})
    write_metrics(
        made.stage("sft", {"training": {"learning_rate": 3e-3}}, {"in": 400}),
        [{"step": s, "loss": 5 * math.exp(-s / 20) + 1} for s in range(60)],
    )
    (made.stage("judge", {"judge": {"kind": "preference_model"}}) / "card.json").write_text(
        json.dumps(card())
    )
    write_pairs(made)
    folder = made.stage(
        "train",
        {"model": None, "loss": {"kind": "sigmoid", "beta": 0.1}, "training": {"lora": None}},
        {"train": 36, "held_out": 4, "steps": 120},
        warnings=("train: step 40: mean log p(chosen) fell",),
    )
    write_metrics(folder, metrics())
    (folder / "summary.json").write_text(json.dumps({"chosen_fell_at_step": None}))
    write_evaluation(made, TEXTS)
    return made
