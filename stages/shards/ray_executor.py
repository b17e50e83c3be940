"""A pool of workers on a Ray cluster, through Ray Data: shards in, their counts out.

Ray starts the actors, spreads them over the nodes, hands a dead actor's shard to another, and
streams the results; the rows themselves go from file to file, so the run directory must be on a
file system that all nodes share.
"""

import importlib.util
import json
import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas import errors
from schemas.errors import BackendError, ConfigError
from schemas.files import first_line
from schemas.stage import RayRuntime
from stages.shards.job import Counts, Job, Worker

_CONNECT_SECONDS = 20


def work_off_on_ray(
    job: Job, shards: Sequence[int], settings: RayRuntime, on_done: Callable[[Counts], None]
) -> None:
    """See `stages.shards.executor.work_off`."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "runtime.engine 'ray': Ray is not installed; install it with `make ray`, or set "
            "runtime.engine to 'local'"
        )
    with _cluster(settings):
        workers = min(settings.workers or _room(settings), len(shards))
        done = iter(_done(job, shards, workers, settings).iter_rows())
        while (row := _next(done)) is not None:
            if row["refused"]:
                raise getattr(errors, row["refused"])(row["said"])
            on_done(json.loads(row["said"]))


def _done(job: Job, shards: Sequence[int], workers: int, settings: RayRuntime) -> Any:
    """The data set of the counts of all shards, computed as it is read."""
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    return ray.data.from_items(
        [{"shard": shard} for shard in shards], override_num_blocks=len(shards)
    ).map_batches(
        _actor(job, Path.cwd()),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=settings.cpus_per_worker,
        num_gpus=settings.gpus_per_worker,
    )


def _actor(job: Job, directory: Path) -> type:
    """The class of the pool's workers, each in a process of its own somewhere on the cluster.

    The job travels in the class: an actor that is started anew needs no argument that may be gone.
    """

    class Actor:
        def __init__(self) -> None:
            if directory.is_dir():
                os.chdir(directory)  # recipes name files relative to where they are run
            self.worker: Worker | None = None

        def __call__(self, batch: Any) -> dict[str, list[str]]:
            [shard] = batch["shard"]
            try:
                self.worker = self.worker or job.open()
                return {"refused": [""], "said": [json.dumps(dict(self.worker.work(int(shard))))]}
            except errors.PipelineError as error:  # travels as data, since Ray wraps what it throws
                return {"refused": [type(error).__name__], "said": [str(error)]}

    return Actor


@contextmanager
def _cluster(settings: RayRuntime) -> Iterator[None]:
    """Be connected to a cluster: the one that is named, else one started on this machine.

    Raises:
        BackendError: the cluster cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    if ray.is_initialized():  # a program that uses prefline has its own cluster
        yield
        return
    address = settings.address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            _refuse_unreachable(address)
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
    except (ConnectionError, OSError, RuntimeError, ValueError, TimeoutError) as error:
        raise BackendError(
            f"Ray cluster {address or 'on this machine'}: cannot be reached or started "
            f"({first_line(error)}); check runtime.ray.address, or set runtime.engine to 'local'"
        ) from error
    try:
        yield
    finally:
        ray.shutdown()


def _refuse_unreachable(address: str) -> None:
    """Knock at a host:port before Ray does, which would wait for minutes."""
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdigit():
        return
    with socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS):
        pass


def _room(settings: RayRuntime) -> int:
    """As many workers as the cluster has room for, one at least."""
    import ray

    has = ray.cluster_resources()
    room = [has.get("CPU", 1) / settings.cpus_per_worker]
    if settings.gpus_per_worker:
        room.append(has.get("GPU", 0) / settings.gpus_per_worker)
    return max(1, int(min(room)))


def _next(rows: Iterator[dict[str, Any]]) -> dict[str, Any] | None:
    """The next row, None after the last. Raises BackendError where Ray gives up."""
    try:
        return next(rows, None)
    except Exception as error:
        raise BackendError(
            f"Ray: a worker failed ({first_line(error)}); finished shards are kept: run the stage "
            "again to continue"
        ) from error
