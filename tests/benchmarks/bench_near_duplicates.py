"""Near-duplicates and decontamination of 160k prompts: `make bench-near_duplicates`.

Prompts are those of the real HH file, repeated with a fifth of their words exchanged until there
are enough. 2,000 copies are planted with up to 3% of their words changed (at least one, of prompts
with 34 words or more), and 500 prompts get an AlpacaEval instruction of 13 words or more put into
them. One thread; CPU-seconds include reading the evaluation set and normalising every text. Where
rensa is installed its signatures and band flags are timed beside ours, on the same hashed words.

Memory is that of the whole stage, in a process of its own, on 160,800 HH-like rows and on four
times as many: `other_words`, where each copy of a real row has other words, and `near_copies`,
where the three further copies of a row differ from the first by a mark.
"""

import gzip
import importlib.util
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.benchmarks import bench_ingest  # noqa: E402

RESULT = Path(__file__).parent / "results" / "near_duplicates.json"
PROMPTS, COPIES, OVERLAPS = 160_000, 2_000, 500
CHANGED, THRESHOLD, NGRAM = 0.03, 0.7, 13
PIECE, TIMES = 2048, 4


def real_data() -> Path:
    """The folder of real data sets."""
    return Path(os.environ.get("PREFLINE_REAL_DATA", ROOT.parent / "shared" / "data"))


def hh_prompts() -> list[str]:
    """The prompts of the real HH rows that can be read."""
    from stages.ingest.datasets.hh import parse_hh
    from stages.ingest.examples import RowError

    path = real_data() / "hh-rlhf" / "harmless-base-test.jsonl.gz"
    if not path.exists():
        sys.exit(f"{path} is not there: set PREFLINE_REAL_DATA to the folder that holds hh-rlhf/")
    prompts = []
    with gzip.open(path) as lines:
        for line in lines:
            try:
                prompt = parse_hh(json.loads(line)).prompt
            except RowError:
                continue
            prompts.append("\n".join(turn["content"] for turn in prompt))
    return prompts


def exchanged(draw: random.Random, text: str, share: float, words: Sequence[str]) -> str:
    """The text with each word exchanged with probability `share`."""
    kept = (draw.choice(words) if draw.random() < share else word for word in text.split(" "))
    return " ".join(kept)


def many_prompts(draw: random.Random) -> list[str]:
    """PROMPTS texts: the real ones, then replicas of them."""
    real = hh_prompts()
    words = [word for text in real for word in text.split()]
    prompts = list(real)
    while len(prompts) < PROMPTS:
        prompts += [exchanged(draw, text, 0.2, words) for text in real]
    return prompts[:PROMPTS]


def plant_copies(draw: random.Random, prompts: list[str]) -> list[tuple[int, int]]:
    """Append changed copies; (original, copy) of each."""
    long = [i for i, text in enumerate(prompts) if len(text.split(" ")) >= 1 / CHANGED]
    words = [word for text in prompts[:2000] for word in text.split()]
    planted = []
    for index in draw.sample(long, COPIES):
        copy = prompts[index].split(" ")
        for place in draw.sample(range(len(copy)), int(CHANGED * len(copy))):
            copy[place] = draw.choice(words)
        planted.append((index, len(prompts)))
        prompts.append(" ".join(copy))
    return planted


def plant_overlaps(draw: random.Random, prompts: list[str], evaluation: list[str]) -> set[int]:
    """Put evaluation texts into some prompts; their positions."""
    long = [text for text in evaluation if len(text.split()) >= NGRAM + 3]
    places = set(draw.sample(range(PROMPTS), OVERLAPS))
    for place in sorted(places):
        prompts[place] = f"{prompts[place]}\n{draw.choice(long)} Thanks!"
    return places


def timed(times: dict[str, float], name: str, work: Callable[[], Any]) -> Any:
    """Run the work and add its CPU-seconds to those of that name."""
    start = time.process_time()
    result = work()
    times[name] = times.get(name, 0.0) + time.process_time() - start
    return result


def rensa_seconds(words: Any) -> dict[str, float] | None:
    """CPU-seconds of rensa's signatures (128 permutations) and flags, where it is installed."""
    if importlib.util.find_spec("rensa") is None:
        return None
    import numpy as np

    rensa: Any = importlib.import_module("rensa")

    from stages.ingest.near_duplicates.minhash import shingles

    sets = shingles(words)
    hashes = sets.hashes.astype(np.uint64)
    digest = rensa.RMinHash.digest_matrix_from_flat_token_hashes
    times: dict[str, float] = {}
    matrix = timed(
        times, "signatures", lambda: digest(hashes, sets.offsets.astype(np.uint64), 128, 7)
    )
    index = rensa.RMinHashLSH(THRESHOLD, 128, 32)
    timed(times, "flags", lambda: index.query_duplicate_flags_matrix_one_shot(matrix))
    return times


def measure(folder: Path) -> dict[str, Any]:
    """Time every step, done piece by piece as the stage does; count what was found of what was
    planted.
    """
    import polars as pl

    from stages.ingest.near_duplicates.config import Decontaminate
    from stages.ingest.near_duplicates.decontamination import EvaluationSet, texts_of
    from stages.ingest.near_duplicates.minhash import shingles
    from stages.ingest.near_duplicates.scratch import Scratch
    from stages.ingest.near_duplicates.text_index import TextIndex
    from stages.ingest.near_duplicates.words import hash_words

    draw = random.Random(0)
    path = str(real_data() / "alpacaeval2" / "instructions.parquet")
    settings = Decontaminate(path=path, name="AlpacaEval")
    hash_words(["warm up: imports are not timed"])
    prompts = many_prompts(draw)
    overlapping = plant_overlaps(draw, prompts, texts_of(settings))
    planted = plant_copies(draw, prompts)
    times: dict[str, float] = {}
    found: set[int] = set()
    near: set[tuple[int, int]] = set()
    evaluation = timed(times, "decontamination", lambda: EvaluationSet(settings))
    with Scratch(folder / "scratch") as scratch:
        index = TextIndex(scratch)
        column = pl.Series("", prompts, pl.String)
        for first in range(0, len(prompts), PIECE):
            texts = column.slice(first, PIECE)
            words = timed(times, "words", partial(hash_words, texts))
            sets = timed(times, "near_pairs", partial(shingles, words))
            timed(times, "near_pairs", partial(index.add, sets))
            here = timed(times, "decontamination", partial(evaluation.overlaps, texts, words))
            found |= {first + place for place in here}
        for pairs, _ in timed(times, "near_pairs", lambda: list(index.near_pairs(THRESHOLD))):
            near |= {(a, b) for a, b in pairs.tolist()}
        on_disk = sum(path.stat().st_size for path in (folder / "scratch").iterdir())
    words = hash_words(prompts)
    unplanted = found - overlapping - {copy for _, copy in planted}
    return {
        "prompts": len(prompts),
        "characters": sum(map(len, prompts)),
        "words": len(words.hashes),
        "cpu_seconds": {**times, "total": sum(times.values())},
        "near_pairs": len(near),
        "recall_of_planted_copies": sum(pair in near for pair in planted) / len(planted),
        "recall_of_planted_overlaps": len(overlapping & found) / len(overlapping),
        "overlaps_not_planted": len(unplanted),
        "rensa_cpu_seconds": rensa_seconds(words),
        "index_on_disk_mb": round(on_disk / 1e6),
    }


def write_other_words(path: Path, times: int) -> None:
    """HH-like rows, all with other words: those of bench_ingest and as many again and again."""
    with gzip.open(path, "wb", compresslevel=1) as file:
        for row in bench_ingest.hh_rows(times * bench_ingest.ROWS["hh"]):
            file.write(json.dumps(row, ensure_ascii=False).encode() + b"\n")


def ingested(path: Path, output: Path) -> dict[str, float]:
    """CPU-seconds and peak memory of the stage with the settings it has by default."""
    command = ("run", "one_split", "hh", str(path), str(output), "-")
    cpu, _, peak = bench_ingest.measured(*command)
    counts = json.loads((output / "counts.json").read_text())
    names = ("rows_in", "prompts", "near_duplicates_moved_to_test")
    found = {name: counts[name] for name in names}
    return {**found, "cpu_seconds": round(cpu, 1), "peak_rss_mb": round(peak)}


def whole_stage(folder: Path) -> dict[str, Any]:
    """The stage on 1 and 4 times the rows, of either kind, and what 100,000 prompts add."""
    bench_ingest.measured("make", "hh", str(folder), str(TIMES), "1.0")
    write_other_words(folder / "other_words.jsonl.gz", TIMES)
    (folder / f"hh{TIMES}.jsonl.gz").rename(folder / "near_copies.jsonl.gz")
    one = ingested(folder / "hh1.jsonl.gz", folder / "once")
    found: dict[str, Any] = {"once": one}
    for kind in ("other_words", "near_copies"):
        more = ingested(folder / f"{kind}.jsonl.gz", folder / kind)
        slope = (more["peak_rss_mb"] - one["peak_rss_mb"]) / (more["prompts"] - one["prompts"])
        found[kind] = {**more, "peak_rss_mb_per_100k_prompts": round(1e5 * slope, 1)}
    return found


def main() -> None:
    """Measure, print and keep the result."""
    settings = {"threshold": THRESHOLD, "ngram": NGRAM, "copies": COPIES, "overlaps": OVERLAPS}
    with tempfile.TemporaryDirectory() as folder:
        # First: a process that is started later would count what this one holds by then.
        stage = whole_stage(Path(folder))
        found = measure(Path(folder))
    result: dict[str, Any] = {"settings": settings, "result": found}
    result[f"stage_at_1_and_{TIMES}_times"] = stage
    result["load_average_at_end"] = round(os.getloadavg()[0], 1)
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(RESULT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
