"""Training of a preference model: every comparison in both orders, one token each."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from evals.judges.kinds.preference_model import MODEL_FOLDER, PreferenceModelJudge
from evals.judges.scoring.label_tokens import LabelTokens
from evals.judges.scoring.transformers import prompt_limit
from evals.models.chat.checks import sound_renderer
from evals.models.checkpoints import ModelSource, load_tokenizer
from schemas.errors import ConfigError
from schemas.ids import content_id
from schemas.labels import LabeledComparison, Order
from schemas.stage import StageContext
from stages.training.checkpoints.adapters import trainable_start
from stages.training.checkpoints.read_back import loss_of_first, publish_whole
from stages.training.checkpoints.resume import CHECKPOINTS
from stages.training.checkpoints.saving import ModelSaver
from stages.training.config import TrainingConfig
from stages.training.data.disk_cache import DiskCache, open_cache
from stages.training.data.rows.token_store import TOKENS_FILE, TokenItem, TokenTable, write_tokens
from stages.training.distributed.world import current_world
from stages.training.objectives.supervised import TokenExample, train_supervised, view_examples
from stages.training.start import load_start, untrained

_BATCH = 512
_TOO_LONG = "too_long.json"


def start_model(judge: PreferenceModelJudge, context: StageContext) -> ModelSource:
    """The model that training begins from: the one named, else the one that [sft] made.

    Raises:
        ConfigError: no model is named and the recipe has no [sft].
    """
    if judge.model is not None:
        return judge.model
    if not context.has("sft"):
        raise ConfigError("judge.model: name the model to train, or give the recipe an [sft] stage")
    return ModelSource(path=str(context.input("sft", "model")))


@dataclass(frozen=True)
class Tokenised:
    """Examples of both orders, and by index of the comparison why it has none."""

    examples: Sequence[TokenExample]
    too_long: dict[int, str]


def tokenise(
    labels: LabelTokens,
    comparisons: Sequence[LabeledComparison],
    max_tokens: int,
    cache: DiskCache,
    made_of: Sequence[str],
) -> Tokenised:
    """Two examples per comparison; where either order is too long, none.

    Tokens are kept in the cache; `made_of` says how `labels` makes them.
    """

    def write(folder: Path) -> None:
        too_long: dict[int, str] = {}
        batches = _batches(labels, comparisons, max_tokens, too_long)
        write_tokens(folder / TOKENS_FILE, batches, parts=2)
        (folder / _TOO_LONG).write_text(json.dumps(too_long), encoding="utf-8")

    def read(folder: Path) -> Tokenised:
        table = TokenTable(folder / TOKENS_FILE)
        too_long = json.loads((folder / _TOO_LONG).read_text(encoding="utf-8"))
        examples = view_examples(table, table.split("train"))
        return Tokenised(examples, {int(index): why for index, why in too_long.items()})

    ids = [f"{unit.comparison.comparison_id}:{unit.label}" for unit in comparisons]
    key = content_id("judge-tokens", *made_of, str(max_tokens), *ids)
    return cache.get(f"tokens/{key}", write, read)


def _batches(
    labels: LabelTokens,
    comparisons: Sequence[LabeledComparison],
    max_tokens: int,
    too_long: dict[int, str],
) -> Iterator[list[TokenItem]]:
    for start in range(0, len(comparisons), _BATCH):
        items: list[TokenItem] = []
        for index, unit in enumerate(comparisons[start : start + _BATCH], start):
            both = examples_of(labels, unit)
            longest = max(sum(map(len, item.parts)) for item in both)
            if longest > max_tokens:
                too_long[index] = f"{longest} tokens; at most {max_tokens} are trained on"
            else:
                items += both
        yield items


def examples_of(labels: LabelTokens, unit: LabeledComparison) -> list[TokenItem]:
    """The comparison as it stands and exchanged: what scoring reads, and the one right token."""
    shown = {Order.AB: unit, Order.BA: unit.swap()}
    return [
        TokenItem(
            f"{unit.comparison.comparison_id}:{order}",
            "train",
            [labels.prompt_ids(one.comparison), [labels.ids[one.label]]],
        )
        for order, one in shown.items()
    ]


class PreferenceModelTraining:
    """A model on its way to becoming a judge; `context.output`/model/ is where it ends up."""

    def __init__(
        self,
        judge: PreferenceModelJudge,
        training: TrainingConfig,
        context: StageContext,
        fresh_weights: bool = False,
    ) -> None:
        """Opens tokenizer and model, or a random one of its shape. Raises what opening raises."""
        source = start_model(judge, context)
        self._training = training
        self._layout = f"{judge.layout}:{judge.section_role}:{judge.prefill}:{judge.show_reasoning}"
        self._cache = open_cache(context)
        self._context = context
        self._tokenizer = load_tokenizer(source)
        sound_renderer(self._tokenizer)
        loaded = load_start(source, training, context.runtime)
        if fresh_weights:
            loaded = untrained(loaded, training.seed)
        self._model = trainable_start(loaded, training.lora, source.path, training.seed)
        if training.lora is None:
            self._model.requires_grad_(True)
        self._saver = ModelSaver(source, self._tokenizer, training.save_dtype)
        self._saver.try_out(self._model)
        self.labels = LabelTokens(self._tokenizer, judge.chat, judge.prefill)
        limit = prompt_limit(self._model, judge) + 1  # the label's token
        self.max_tokens = min(limit, training.max_length or limit)

    def tokenise(self, comparisons: Sequence[LabeledComparison]) -> Tokenised:
        """Comparisons to examples that the model can take."""
        made_of = (self._layout, self.labels.fingerprint)
        return tokenise(self.labels, comparisons, self.max_tokens, self._cache, made_of)

    def run(self, train: Sequence[TokenExample], held_out: Sequence[TokenExample]) -> None:
        """Train and publish model/; does nothing where a killed run had come that far.

        On several ranks all train and rank 0 publishes.
        """
        folder = self._context.output / MODEL_FOLDER
        world = current_world()
        if not world.agree(folder.exists()):
            self._train(train, held_out)
            if not world.is_main:
                return
            publish_whole(self._model, self._saver, loss_of_first(held_out, train), folder)
        self._context.discard(self._context.output / CHECKPOINTS)

    def _train(self, train: Sequence[TokenExample], held_out: Sequence[TokenExample]) -> None:
        title = "train the judge"
        train_supervised(self._model, train, held_out, self._training, self._context, title)
