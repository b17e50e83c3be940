"""Training of a Bradley-Terry reward model: the chosen conversation gets the higher number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForSequenceClassification, PreTrainedModel
from transformers.utils import logging

from evals.judges.kinds.reward_model import RewardModelJudge
from evals.judges.scoring.conversations import ConversationReader
from evals.models.checkpoints import ModelSource, library_errors, load_tokenizer, positions_of
from evals.models.classifiers import load_reward_model, padded_rewards, rewards
from schemas.errors import BackendError, ConfigError
from schemas.files import writing_folder
from schemas.labels import Preference
from schemas.stage import StageContext
from stages.judge.config import RewardTraining
from stages.judge.labelled import Labelled
from stages.training.checkpoints.resume import CHECKPOINTS
from stages.training.checkpoints.saving import ModelSaver
from stages.training.config import TrainingConfig
from stages.training.distributed.world import current_world, loading_device
from stages.training.loop import TrainingRun, train
from stages.training.objectives.base import Columns

# Between what is trained and what is read back, by number format.
_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}


@dataclass(frozen=True)
class RewardPair:
    """Two conversations in tokens, and by how much the first reward is to be ahead."""

    key: str
    chosen_ids: Sequence[int]
    rejected_ids: Sequence[int]
    margin: float = 0.0


def bradley_terry(chosen: Tensor, rejected: Tensor, margin: Tensor, centring: float) -> Tensor:
    """-log s(r_w - r_l - m) + c (r_w + r_l)^2, of rewards (n,).

    Ouyang et al. 2022 (arXiv:2203.02155), eq. 1; margins: Touvron et al. 2023 (Llama 2,
    arXiv:2307.09288), eq. 2; centring: Eisenstein et al. 2023 (arXiv:2312.09244).
    """
    return -F.logsigmoid(chosen - rejected - margin) + centring * (chosen + rejected).square()


class BradleyTerry:
    """Mean over a step's pairs of `bradley_terry`."""

    unit = "pair"
    looks_at_batch = False

    def __init__(self, centring: float, pad_id: int | None) -> None:
        self._centring, self._pad_id = centring, pad_id
        self.remembered: dict[str, float] = {}

    def key(self, item: RewardPair) -> str:
        """The comparison's id."""
        return item.key

    def num_tokens(self, item: RewardPair) -> int:
        """Tokens of both conversations."""
        return len(item.chosen_ids) + len(item.rejected_ids)

    def micro_batches(self, items: Sequence[RewardPair], size: int) -> list[list[RewardPair]]:
        """Pairs of like length together."""
        ordered = sorted(items, key=self.num_tokens, reverse=True)
        return [ordered[start : start + size] for start in range(0, len(ordered), size)]

    def denominator(self, items: Sequence[RewardPair]) -> float:
        """Pairs of the step."""
        return len(items)

    def see_batch(
        self, items: Sequence[RewardPair], columns: Columns, *, training: bool = False
    ) -> Columns:
        """No pair depends on another."""
        return columns

    def accumulate(
        self, model: PreTrainedModel, items: Sequence[RewardPair], scale: float
    ) -> Columns:
        """See `Objective`."""
        columns = self._columns(model, items)
        (columns["loss"].sum() * scale).backward()  # type: ignore[no-untyped-call]
        return {name: values.detach() for name, values in columns.items()}

    def measure(self, model: PreTrainedModel, items: Sequence[RewardPair]) -> Columns:
        """See `Objective`."""
        with torch.no_grad():
            return self._columns(model, items)

    def summarise(self, columns: Columns) -> dict[str, float]:
        """Means; a difference of exactly nothing is half right."""
        ahead = columns["chosen"] - columns["rejected"]
        right = (ahead > 0).double() + (ahead == 0).double() / 2
        return {
            "loss": float(columns["loss"].mean()),
            "accuracy": float(right.mean()),
            "margin": float(ahead.mean()),
            "mean_reward": float((columns["chosen"] + columns["rejected"]).mean() / 2),
        }

    def _columns(self, model: PreTrainedModel, items: Sequence[RewardPair]) -> dict[str, Tensor]:
        rows = [*(item.chosen_ids for item in items), *(item.rejected_ids for item in items)]
        chosen, rejected = padded_rewards(model, rows, self._pad_id).double().chunk(2)
        margin = chosen.new_tensor([item.margin for item in items])
        loss = bradley_terry(chosen, rejected, margin, self._centring)
        return {"loss": loss, "chosen": chosen, "rejected": rejected}


class RewardModelTraining:
    """A classifier on its way to becoming a judge; `context.output`/model/ is where it ends up."""

    def __init__(
        self,
        judge: RewardModelJudge,
        training: TrainingConfig,
        how: RewardTraining,
        context: StageContext,
    ) -> None:
        """Opens tokenizer and model.

        Raises:
            ConfigError: adapters or several ranks are asked for. And what opening raises.
        """
        if training.lora is not None or training.weights_on("cpu") != "float32":
            raise ConfigError(
                "judge.training: a reward model is trained whole, in float32; leave lora and "
                "weights out"
            )
        if current_world().size > 1:
            raise ConfigError("judge.training: a reward model is trained by one rank alone")
        self._training, self._how, self._context = training, how, context
        self._tokenizer = load_tokenizer(judge.model)
        self._model = _open(judge.model, training.seed).to(loading_device(context.runtime))
        self._saver = ModelSaver(judge.model, self._tokenizer, training.save_dtype)
        self._saver.try_out(self._model)
        limits = (positions_of(self._model.config), training.max_length)
        self.max_tokens = min((n for n in limits if n is not None), default=2**31 - 1)
        as_it_is = judge.model_copy(update={"overlong": "unscored"})
        self._reader = ConversationReader(as_it_is, self.max_tokens)

    def tokenise(self, labelled: Labelled) -> tuple[list[RewardPair], dict[int, tuple[str, str]]]:
        """Pairs, and by index of the comparison the reason and the detail why it is none."""
        pairs: list[RewardPair] = []
        left_out: dict[int, tuple[str, str]] = {}
        for index, unit in enumerate(labelled.comparisons):
            found = unit.comparison
            if unit.label == Preference.TIE:
                left_out[index] = ("tie", "a reward model knows no ties")
                continue
            sides = [found.completion_a, found.completion_b]
            if unit.label == Preference.B:
                sides.reverse()
            rows = [self._reader.conversation_ids(found.prompt, side) for side in sides]
            longest = max(map(len, rows))
            if longest > self.max_tokens:
                detail = f"{longest} tokens; at most {self.max_tokens} are trained on"
                left_out[index] = ("prompt_too_long", detail)
            else:
                strength = labelled.rows[index].get("strength")
                margin = self._how.margin * (1.0 if strength is None else strength)
                pairs.append(RewardPair(found.comparison_id, rows[0], rows[1], margin))
        return pairs, left_out

    def run(self, pairs: Sequence[RewardPair], held_out: Sequence[RewardPair]) -> None:
        """Train and publish model/; does nothing where a killed run had come that far."""
        folder = self._context.output / "model"
        if not folder.exists():
            config, title = self._training, "train the judge"
            objective = BradleyTerry(self._how.centring, self._tokenizer.pad_token_id)
            measured = held_out[: config.max_held_out]
            train(
                TrainingRun(self._model, objective, pairs, measured, config, self._context, title)
            )
            self._publish((held_out or pairs)[0], folder)
        self._context.discard(self._context.output / CHECKPOINTS)

    def _publish(self, first: RewardPair, folder: Path) -> None:
        rows, pad_id = [first.chosen_ids, first.rejected_ids], self._tokenizer.pad_token_id
        before = rewards(self._model, rows, pad_id)
        with writing_folder(folder) as writing:
            self._saver.save(self._model, writing)
            read = load_reward_model(ModelSource(path=str(writing)), self._model.device)
            after = rewards(read, rows, pad_id)
            far = max(abs(a - b) / (1 + abs(b)) for a, b in zip(after, before, strict=True))
            if not far <= _TOLERANCE[self._saver.dtype]:
                raise BackendError(
                    f"{writing}: the saved model gives rewards of {after} where the trained one "
                    f"gave {before}; nothing is published"
                )


def _open(source: ModelSource, seed: int) -> PreTrainedModel:
    """A classifier with one label over a language model; its head is new where there is none."""
    before = logging.get_verbosity()
    logging.set_verbosity_error()  # a head that is missing is what is wanted
    try:
        with (
            library_errors(f"{source.path}: cannot be loaded", "check the name and the network"),
            torch.random.fork_rng(devices=[]),
        ):
            torch.manual_seed(seed)
            model: PreTrainedModel = AutoModelForSequenceClassification.from_pretrained(
                source.path,
                revision=source.commit or source.revision,
                dtype=torch.float32,
                num_labels=1,
                trust_remote_code=source.trust_remote_code,
            )
    finally:
        logging.set_verbosity(before)
    return model.eval().requires_grad_(True)


def counts_of(left_out: Mapping[int, tuple[str, str]]) -> dict[str, int]:
    """How many were left out for each reason."""
    reasons = [reason for reason, _ in left_out.values()]
    return {f"rejected_{reason}": reasons.count(reason) for reason in sorted(set(reasons))}
