"""Shards on a Ray cluster of two nodes, both on this machine."""

import json
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from evals.food_world import FOODS
from evals.judges import LengthJudge, RuleJudge, save_judge
from evals.models.samplers import TransformersSampler
from schemas.errors import BackendError, ConfigError, DataError
from schemas.parquet import write_table
from schemas.stage import RayRuntime, Runtime, StageContext
from schemas.tables import COMPLETIONS, PROMPTS
from stages.evaluate import STAGE as EVALUATE
from stages.evaluate.config import EvaluateConfig
from stages.label import STAGE as LABEL
from stages.label.config import LabelConfig
from stages.shards.executor import work_off
from stages.shards.job import Counts
from tests.fixtures.comparisons import completion_row
from tests.fixtures.preferences import prompt
from tests.fixtures.tiny_models import tiny_llama

pytestmark = [
    pytest.mark.ray,
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of many kinds
    pytest.mark.slow,
]


@pytest.fixture(autouse=True)
def no_network() -> None:
    """Ray's nodes talk to each other by this machine's own address."""


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[str]:
    """The address of a cluster of two nodes; each worker of the tests takes one whole."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=2)
    yield cluster.address
    cluster.shutdown()


def on(address: str) -> Runtime:
    ray = RayRuntime(address=address, workers=2, cpus_per_worker=1)
    return Runtime(engine="ray", ray=ray, device="cpu", threads=1)


@dataclass(frozen=True)
class NotingJob:
    """Notes who does which shard; one shard may kill its worker, or be refused."""

    folder: Path
    kills: int | None = None
    refuses: int | None = None
    seconds: float = 0

    def open(self) -> "NotingJob":
        return self

    def work(self, shard: int) -> Counts:
        import ray

        mark = self.folder / "killed"
        if shard == self.kills and not mark.exists():
            mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if shard == self.refuses:
            raise DataError(f"shard {shard}: nothing to read; look at it")
        time.sleep(self.seconds)
        with (self.folder / "done.jsonl").open("a") as file:
            node = ray.get_runtime_context().get_node_id()
            file.write(json.dumps({"shard": shard, "node": node}) + "\n")
        return {"shard": shard, "rows": 10}

    def close(self) -> None:
        pass

    @property
    def done(self) -> list[dict[str, str]]:
        return [json.loads(line) for line in (self.folder / "done.jsonl").read_text().splitlines()]


def test_every_shard_is_done_once_and_both_nodes_work(two_nodes: str, tmp_path: Path) -> None:
    # Slow enough that the first worker does not finish before the second has started.
    job, found = NotingJob(tmp_path, seconds=0.5), list[Counts]()
    work_off(job, range(12), on(two_nodes), found.append)
    assert sorted(counts["shard"] for counts in found) == list(range(12))
    assert all(counts["rows"] == 10 for counts in found)
    assert Counter(int(d["shard"]) for d in job.done) == dict.fromkeys(range(12), 1)
    assert len({d["node"] for d in job.done}) == 2


def test_a_killed_worker_costs_its_shard_only(two_nodes: str, tmp_path: Path) -> None:
    job, found = NotingJob(tmp_path, kills=5), list[Counts]()
    work_off(job, range(8), on(two_nodes), found.append)
    assert (tmp_path / "killed").exists()
    assert sorted(counts["shard"] for counts in found) == list(range(8))
    assert Counter(int(d["shard"]) for d in job.done) == dict.fromkeys(range(8), 1)


def test_what_a_worker_refuses_is_refused_here_in_its_words(two_nodes: str, tmp_path: Path) -> None:
    job = NotingJob(tmp_path, refuses=1)
    with pytest.raises(DataError, match="shard 1: nothing to read; look at it"):
        work_off(job, range(2), on(two_nodes), lambda counts: None)


def test_label_on_two_nodes_makes_the_same_tables(two_nodes: str, tmp_path: Path) -> None:
    rows = [
        completion_row(f"question {i}?", "word " * (i + j), j) for i in range(10) for j in range(3)
    ]
    write_table(tmp_path / "sample" / COMPLETIONS.file_name, COMPLETIONS, rows)
    (tmp_path / "judge").mkdir()
    save_judge(tmp_path / "judge", LengthJudge(), Runtime())
    inputs = {"sample": tmp_path / "sample", "judge": tmp_path / "judge"}
    config = LabelConfig(shard_size=2)
    here = StageContext(inputs, tmp_path / "here")
    there = StageContext(inputs, tmp_path / "there", on(two_nodes))
    assert LABEL.run(config, here) == LABEL.run(config, there)
    made = [{p.name: p.read_bytes() for p in context.output.iterdir()} for context in (here, there)]
    assert len(made[0]) == 4
    assert made[0] == made[1]


def test_evaluate_on_two_nodes_makes_the_same_tables(two_nodes: str, tmp_path: Path) -> None:
    for number, stage in enumerate(("sft", "train")):
        tiny_llama(tmp_path / stage / "model", ["what does ravin like?", *FOODS], seed=number)
    prompts = [prompt(f"person {i}", i) | {"split": "test"} for i in range(12)]
    write_table(tmp_path / "ingest" / PROMPTS.file_name, PROMPTS, prompts)
    (tmp_path / "judge").mkdir()
    save_judge(tmp_path / "judge", LengthJudge(), Runtime())
    inputs = {name: tmp_path / name for name in ("ingest", "sft", "train", "judge")}
    config = EvaluateConfig(
        sampler=TransformersSampler(), max_tokens=4, shard_size=3, truth=RuleJudge()
    )
    here = StageContext(inputs, tmp_path / "here", Runtime(device="cpu", threads=1))
    there = StageContext(inputs, tmp_path / "there", on(two_nodes))
    assert EVALUATE.run(config, here) == EVALUATE.run(config, there)
    one, other = (
        {p.name: p.read_bytes() for p in context.output.iterdir() if p.is_file()}
        for context in (here, there)
    )
    assert {"completions_policy.parquet", "verdicts.parquet", "win_rates.json"} <= set(one)
    assert one == other


def test_a_cluster_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    runtime = Runtime(engine="ray", ray=RayRuntime(address="127.0.0.1:1"))
    with pytest.raises(BackendError, match=r"127\.0\.0\.1:1: cannot be reached"):
        work_off(NotingJob(tmp_path), [0], runtime, lambda counts: None)


def test_without_ray_it_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="make ray"):
        work_off(NotingJob(tmp_path), [0], Runtime(engine="ray"), lambda counts: None)
