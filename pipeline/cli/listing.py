"""Every command: its name, its line in `prefline --help`, and where it is.

A command's module is imported when the command is typed, so that `prefline --help` loads none.
"""

from dataclasses import dataclass
from typing import Literal

Panel = Literal["Start", "Stages", "Runs", "Judging", "Data", "Models"]


@dataclass(frozen=True)
class Listed:
    """A command: `function` of `module`, or what `function` makes of the name of a stage."""

    name: str
    summary: str
    panel: Panel
    module: str
    function: str
    is_stage: bool = False


def _stage(name: str, summary: str) -> Listed:
    module = "pipeline.commands.runs.stage"
    return Listed(name, summary, "Stages", module, "stage_command", is_stage=True)


def _command(name: str, summary: str, panel: Panel, place: str) -> Listed:
    module, _, function = place.partition(":")
    return Listed(name, summary, panel, f"pipeline.commands.{module}", function)


COMMANDS: tuple[Listed, ...] = (
    _command(
        "init",
        "Write a commented recipe from your data, model and judge; ask for what is not said.",
        "Start",
        "start.init:init",
    ),
    _command(
        "train-pairs",
        "Train a LoRA adapter by DPO on preference pairs, and write the page of the run.",
        "Start",
        "start.train_pairs:train_pairs",
    ),
    _command(
        "benchmark",
        "Run inspect tasks on a model or an adapter, and print the scores with their intervals.",
        "Start",
        "start.benchmark:benchmark",
    ),
    _stage("ingest", "read raw preference data into prompts, demonstrations and comparisons"),
    _stage("sft", "train the start policy on demonstrations"),
    _stage("judge", "make a judge of two completions, trained where it is a model, and measure it"),
    _stage("sample", "Sample completions of the policy"),
    _stage("label", "pair sampled completions by the judge's verdicts in both orders"),
    _stage("train", "train the policy on preference pairs with DPO"),
    _stage(
        "evaluate", "benchmarks and win rate of the policy against its baseline on held-out prompts"
    ),
    _stage("report", "write one self-contained page and every number on it"),
    _command(
        "run",
        "Run every stage of a recipe that is not up to date, and say what came out.",
        "Runs",
        "runs.run:run",
    ),
    _command(
        "status",
        "Show a line a stage: fresh, stale, failed, interrupted or missing, why, and what to do.",
        "Runs",
        "runs.status:status",
    ),
    _command(
        "validate",
        "Check a recipe whole, without running anything; print all of its mistakes at once.",
        "Runs",
        "runs.validate:validate",
    ),
    _command(
        "runs",
        "List runs, newest first: headline, the settings in which they differ, time.",
        "Runs",
        "runs.shelf:runs",
    ),
    _command(
        "explain",
        "Explain a setting of recipes: its default, its meaning, legal values, an example.",
        "Runs",
        "runs.explain:explain_setting",
    ),
    _command(
        "compare",
        "Say which of several models or files of outputs is better, with intervals and a page.",
        "Judging",
        "judging.compare:compare",
    ),
    _command(
        "judge-pairs",
        "Let a judge compare given answers in both orders: verdicts, preference pairs, its card.",
        "Judging",
        "judging.judge_pairs:judge_pairs",
    ),
    _command(
        "win-rate",
        "Recompute win rates, the verdict and its warnings from saved verdicts.",
        "Judging",
        "judging.win_rate:win_rate",
    ),
    _command(
        "judge-card",
        "Measure a judge against labels: agreement, ties, bias for a place, calibration, failures.",
        "Judging",
        "judging.judge_card:judge_card",
    ),
    _command(
        "audit",
        "Let people judge pairs blind on a page of this machine; every answer is on disk at once.",
        "Judging",
        "judging.audit:audit",
    ),
    _command(
        "reproduce",
        "Recompute published numbers offline, and say how far ours are from them.",
        "Judging",
        "judging.reproduce:reproduce",
    ),
    _command(
        "show",
        "Show one row: the conversation, what was preferred, labels, scores, where it came from.",
        "Data",
        "data.show:show",
    ),
    _command(
        "trace",
        "Follow a pair back through verdicts and completions to its raw file and line.",
        "Data",
        "data.trace:trace",
    ),
    _command(
        "stats",
        "Show the data card of tables: sources, labels, ties, lengths, duplicates and rejects.",
        "Data",
        "data.stats:stats",
    ),
    _command(
        "export",
        "Write tables as files that TRL, the Tinker cookbook or datasets.load_dataset read.",
        "Data",
        "data.export:export",
    ),
    _command(
        "render",
        "Show conversations as a model's tokens, and which of them it would be trained on.",
        "Models",
        "models.render:render",
    ),
    _command(
        "doctor",
        "Probe a model's tokenizer and chat template: what is wrong, and what to do about it.",
        "Models",
        "models.doctor:doctor",
    ),
    _command(
        "push",
        "Publish a run's model or adapter with a filled card and the verdicts that prove it.",
        "Models",
        "models.push:push",
    ),
    _command(
        "verify",
        "Recompute a published card's numbers from its verdicts; exit code 1 where they differ.",
        "Models",
        "models.verify:verify",
    ),
    _command(
        "merge",
        "Merge a LoRA adapter into its base, and save one model that needs no peft.",
        "Models",
        "models.merge:merge",
    ),
)
