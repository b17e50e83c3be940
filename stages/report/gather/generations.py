"""What the policy wrote while it was trained: the same prompts at a few steps, side by side."""

from collections.abc import Sequence
from typing import Any

from schemas.results.training import CheckpointRecord
from stages.report.gather.sources import Json, Rows, Sources
from stages.report.page.text import clip
from stages.training.monitoring.written import GENERATIONS

MAX_TEXT = 400
SHOWN_PROMPTS = 4


def generations(sources: Sources) -> Json | None:
    """The first prompts at the first, a middle, the published and the last measured step.

    Returns:
        `{steps, n_prompts, prompts: [{prompt, completions: [{step, content, more_characters,
        num_tokens, ended, well_formed}]}]}`; None where nothing was written.
    """
    rows = sources.rows("train", GENERATIONS)
    if not rows:
        return None
    record = sources.result("train", "checkpoints.json", CheckpointRecord)
    steps = shown_steps(
        sorted({row["step"] for row in rows}), record.published_step if record else None
    )
    ids = list(dict.fromkeys(row["prompt_id"] for row in rows))
    return {
        "steps": steps,
        "n_prompts": len(ids),
        "prompts": [_prompt(rows, id_, steps) for id_ in ids[:SHOWN_PROMPTS]],
    }


def shown_steps(measured: Sequence[int], published: int | None) -> list[int]:
    """First, middle and last of the measured steps, and the published one."""
    chosen = {measured[0], measured[len(measured) // 2], measured[-1]}
    return sorted(chosen.union(step for step in measured if step == published))


def _prompt(rows: Rows, prompt_id: str, steps: Sequence[int]) -> Json:
    mine = {row["step"]: row for row in rows if row["prompt_id"] == prompt_id}
    prompt, more = clip(mine[steps[0]]["prompt"][-1]["content"], MAX_TEXT)
    completions = [_completion(mine[step]) for step in steps if step in mine]
    return {"prompt": prompt, "more_characters": more, "completions": completions}


def _completion(row: dict[str, Any]) -> Json:
    content, more = clip("\n".join(turn["content"] for turn in row["completion"]), MAX_TEXT)
    return {
        "step": row["step"],
        "content": content,
        "more_characters": more,
        "num_tokens": row["num_tokens"],
        "ended": row["finish_reason"] == "stop",
        "well_formed": row["well_formed"],
    }
