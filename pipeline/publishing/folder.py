"""A folder to publish: written from a run, and checked by anybody."""

import json
import shutil
from pathlib import Path
from typing import Any

from evals.files.opening.sending import new_folder
from pipeline.publishing.card import model_card, results_section
from pipeline.publishing.numbers import differences, numbers_of
from pipeline.runs.publish import damage_of
from schemas.errors import DataError, MissingInputError
from schemas.files import write_json, write_text
from schemas.ids import file_sha256
from schemas.manifest import read_manifest

PROOF = "prefline"
"""The folder of what the card's numbers follow from."""
RECORD = "numbers.json"
CARD = "README.md"
_PROOFS = (
    *("verdicts.parquet", "comparisons.parquet", "declared.json", "win_rates.json"),
    *("completions_policy.parquet", "completions_baseline.parquet", "benchmarks.json"),
)


def last_round(run: Path) -> Path:
    """Where a run's last finished training is: itself, or the folder of a round.

    Raises:
        MissingInputError: nothing is trained there.
    """
    rounds = sorted(run.glob("round-*"), key=lambda path: (len(path.name), path.name))
    for folder in [*reversed(rounds), run]:
        if (folder / "train" / "manifest.json").is_file():
            return folder
    raise MissingInputError(f"{run}: no finished training there; give a run directory")


def write_folder(run: Path, folder: Path | str, name: str) -> dict[str, Any]:
    """Write weights or adapter, card and proofs of a run into a new folder; the card's numbers.

    The folder may be on a remote store.

    Raises:
        ConfigError: the folder holds something.
        BackendError: it is on a store that cannot be reached.
        MissingInputError: the run has trained nothing.
        DataError: what a stage has written is not what lies there.
    """
    trained = last_round(run)
    _refuse_damaged(
        *(run / "ingest", run / "judge"),
        *(trained / "train", trained / "evaluate", trained / "report"),
    )
    evaluated = trained / "evaluate"
    numbers = numbers_of(evaluated) if (evaluated / "verdicts.parquet").is_file() else {}
    with new_folder(str(folder)) as making:
        shutil.copytree(trained / "train" / "model", making, dirs_exist_ok=True)
        proof = making / PROOF
        proof.mkdir()
        for file in _PROOFS:
            if (evaluated / file).is_file():
                shutil.copy2(evaluated / file, proof / file)
        for source, target in (
            (run / "judge" / "card.json", "judge_card.json"),
            (trained / "report" / "summary.json", "summary.json"),
            (trained / "train" / "manifest.json", "train_manifest.json"),
            (run / "ingest" / "manifest.json", "ingest_manifest.json"),
        ):
            if source.is_file():
                shutil.copy2(source, proof / target)
        write_text(making / CARD, model_card(trained, run, name, numbers))
        files = [path for path in sorted(making.rglob("*")) if path.is_file()]
        hashes = {str(path.relative_to(making)): file_sha256(path) for path in files}
        write_json(proof / RECORD, {"numbers": numbers, "files": hashes})
    return numbers


def _refuse_damaged(*stages: Path) -> None:
    for stage in stages:
        manifest = read_manifest(stage)
        damage = damage_of(stage, manifest) if manifest else ""
        if damage:
            raise DataError(
                f"{stage}: damaged: {damage}; `prefline run` on {stage.parent} makes it again"
            )


def problems_of(folder: Path) -> list[str]:
    """What of a published folder does not hold: numbers, their text, files. Empty: all holds.

    Raises:
        MissingInputError, DataError: it is no such folder.
    """
    record = folder / PROOF / RECORD
    if not record.is_file():
        raise MissingInputError(
            f"{record}: not there; give a folder that `prefline push` has written"
        )
    try:
        said = json.loads(record.read_text(encoding="utf-8"))
        numbers, files = said["numbers"], said["files"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{record}: is damaged; take the folder from its source again") from error
    has_verdicts = (folder / PROOF / "verdicts.parquet").is_file()
    found = numbers_of(folder / PROOF) if has_verdicts else {}
    wrong = differences(numbers, found)
    card = (folder / CARD).read_text(encoding="utf-8") if (folder / CARD).is_file() else ""
    if results_section(found) not in card:
        wrong.append(f"{CARD}: its results are not those that the verdicts give")
    for name, sha256 in files.items():
        path = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{record}: names {name}, which is outside the folder")
        if not path.is_file():
            wrong.append(f"{name}: is missing")
        elif name != CARD and file_sha256(path) != sha256:
            wrong.append(f"{name}: is not the file that was published")
    return wrong
