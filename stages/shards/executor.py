"""Who does the shards: one engine in this process, or a pool of them on a Ray cluster."""

from collections.abc import Callable, Sequence

from schemas.stage import Runtime
from stages.shards.job import Counts, Job, Worker
from stages.shards.ray_executor import work_off_on_ray


def work_off(
    job: Job,
    shards: Sequence[int],
    runtime: Runtime,
    on_done: Callable[[Counts], None],
    opened: Worker | None = None,
) -> None:
    """Do all shards in any order; `on_done` gets the counts of each as it is finished.

    A worker that the caller has `opened` already does the work of this process, and stays open; the
    workers of a cluster always open the job themselves.

    Raises:
        PipelineError: what the job raises, the same from a cluster as from here; also where Ray is
            not installed, or its cluster not to be reached.
    """
    if not shards:
        return
    if runtime.engine == "ray":
        return work_off_on_ray(job, shards, runtime.ray, on_done)
    worker = opened or job.open()
    try:
        for shard in shards:
            on_done(worker.work(shard))
    finally:
        if worker is not opened:
            worker.close()
