"""Near-duplicates and decontamination of 160k prompts: `make bench-near_duplicates`.

Prompts are those of the real HH file, repeated with a fifth of their words exchanged until there
are enough. 2,000 copies are planted with up to 3% of their words changed (at least one, of prompts
with 34 words or more), and 500 prompts get an AlpacaEval instruction of 13 words or more put into
them. One thread; CPU-seconds include reading the evaluation set and normalising every text. Where
rensa is installed its signatures and band flags are timed beside ours, on the same hashed words.
"""

import gzip
import importlib.util
import json
import os
import random
import resource
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("POLARS_MAX_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

RESULT = Path(__file__).parent / "results" / "near_duplicates.json"
PROMPTS, COPIES, OVERLAPS = 160_000, 2_000, 500
CHANGED, THRESHOLD, NGRAM = 0.03, 0.7, 13


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
    """Run the work and note its CPU-seconds."""
    start = time.process_time()
    result = work()
    times[name] = time.process_time() - start
    return result


def rensa_seconds(words: Any) -> dict[str, float] | None:
    """CPU-seconds of rensa's signatures (128 permutations) and flags, where it is installed."""
    if importlib.util.find_spec("rensa") is None:
        return None
    import numpy as np

    rensa: Any = importlib.import_module("rensa")

    from stages.ingest.cleaning.minhash import shingles

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


def measure() -> dict[str, Any]:
    """Time every step and count what was found of what was planted."""
    from stages.ingest.cleaning.decontamination import Decontaminate, EvaluationSet
    from stages.ingest.cleaning.minhash import shingles
    from stages.ingest.cleaning.near_duplicates import near_pairs
    from stages.ingest.cleaning.words import hash_words

    draw = random.Random(0)
    settings = Decontaminate(
        path=str(real_data() / "alpacaeval2" / "instructions.parquet"), name="AlpacaEval"
    )
    hash_words(["warm up: imports are not timed"])
    prompts = many_prompts(draw)
    overlapping = plant_overlaps(draw, prompts, settings.texts())
    planted = plant_copies(draw, prompts)
    times: dict[str, float] = {}
    words = timed(times, "words", lambda: hash_words(prompts))
    pairs, _ = timed(times, "near_pairs", lambda: near_pairs(shingles(words), THRESHOLD))
    found = timed(
        times, "decontamination", lambda: EvaluationSet(settings).overlaps(prompts, words)
    )
    near = {(int(a), int(b)) for a, b in pairs}
    unplanted = set(found) - overlapping - {copy for _, copy in planted}
    return {
        "prompts": len(prompts),
        "characters": sum(map(len, prompts)),
        "words": len(words.hashes),
        "cpu_seconds": {**times, "total": sum(times.values())},
        "near_pairs": len(near),
        "recall_of_planted_copies": sum(pair in near for pair in planted) / len(planted),
        "recall_of_planted_overlaps": len(overlapping & set(found)) / len(overlapping),
        "overlaps_not_planted": len(unplanted),
        "rensa_cpu_seconds": rensa_seconds(words),
        "peak_memory_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def main() -> None:
    """Measure, print and keep the result."""
    settings = {"threshold": THRESHOLD, "ngram": NGRAM, "copies": COPIES, "overlaps": OVERLAPS}
    result = {"settings": settings, "result": measure()}
    RESULT.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(RESULT.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
