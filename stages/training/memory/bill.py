"""What a training step takes, worked out from a model's shape and the settings.

Everything but `activations` follows from what the code keeps: see `passes`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from evals.memory.shape import WIDTH, ModelShape
from schemas.work import Bill
from stages.training.config import TrainingConfig
from stages.training.memory.budget import PassBudget
from stages.training.memory.passes import Pass, packs, pass_parts
from stages.training.memory.sizes import pack_budget, state_bytes

ASSUMED_LENGTH = 2048
"""Tokens of prompt and completion where neither `max_length` nor the model sets less."""


@dataclass(frozen=True)
class Item:
    """The longest item of a training: tokens of its prompt, and of each of its completions."""

    prompt: int
    completions: tuple[int, ...]

    @property
    def tree(self) -> int:
        """Tokens where the prompt is computed once."""
        return self.prompt + sum(self.completions)

    @property
    def rows(self) -> int:
        """Tokens where every completion has its own copy of the prompt, padded."""
        return len(self.completions) * (self.prompt + max(self.completions))


def longest_item(training: TrainingConfig, shape: ModelShape, completions: int) -> Item:
    """The longest that `max_length` lets in: a short prompt, long completions."""
    length = training.max_length or min(shape.positions or ASSUMED_LENGTH, ASSUMED_LENGTH)
    return Item(1, (length - 1,) * completions)


def training_bill(
    shape: ModelShape, training: TrainingConfig, item: Item, device: str, cards: int = 1
) -> Bill:
    """The peak of a step on one of `cards` that share weights, gradients and states."""
    parts = _parts(shape, training, item, device, cards)
    refusal = PassBudget(shape, training, device).refusal(_alone(shape, training, item))
    cheaper = {
        said: sum(_parts(shape, changed, changed_item, device, cards).values())
        for said, changed, changed_item in _changes(shape, training, item, device)
    }
    total = sum(parts.values())
    kept = {said: n for said, n in cheaper.items() if n < 0.95 * total}
    return Bill(parts, _about(shape, training, item, device), kept, refusal or "")


def _about(shape: ModelShape, training: TrainingConfig, item: Item, device: str) -> str:
    passes = _passes(shape, training, item, device)
    tokens = max(one.tokens for one in passes)
    said = f"up to {tokens:,} tokens a pass, of items up to {item.tree:,}"
    if training.max_activation_gb is not None:
        again = max(one.again for one in passes)
        said += f"; {training.max_activation_gb:g} GB a pass, {again} of {shape.layers} layers run "
        said += "again for the longest"
    return said


def _alone(shape: ModelShape, training: TrainingConfig, item: Item) -> Pass:
    """An item's own pass."""
    scored = sum(item.completions)
    if packs(shape, training):
        return Pass(item.tree, scored)
    return Pass(item.rows, scored, len(item.completions))


def _passes(shape: ModelShape, training: TrainingConfig, item: Item, device: str) -> list[Pass]:
    """The largest forward passes."""
    size = training.micro_batch_size or training.batch_size
    budget = PassBudget(shape, training, device)
    return list(budget.largest(_alone(shape, training, item), size))


def _parts(
    shape: ModelShape, training: TrainingConfig, item: Item, device: str, cards: int
) -> dict[str, int]:
    weights = training.weights_on(device)
    lora = training.lora
    frozen = shape.weight_bytes(weights, "float32" if device == "cpu" else "bfloat16")
    if weights != "nf4":
        frozen = shape.weight_bytes(weights)
    trained = shape.parameters
    if lora is not None:
        trained = shape.adapter_parameters(lora.rank, lora.target_modules)
        frozen += 4 * trained
    width_of_base = WIDTH[weights]
    width = 4.0 if lora is not None else width_of_base
    found = _passes(shape, training, item, device)
    passes = [pass_parts(shape, training, device, one) for one in found]
    gradients = trained * width / cards
    moments = [{"gradients": gradients, **parts} for parts in passes]
    if cards == 1 and _is_one_pass(shape, training, item, device):
        of_head = 0.0 if lora is not None else shape.vocab * shape.hidden * width
        moments = [m for parts in passes for m in _of_one_pass(shape, gradients, of_head, parts)]
    most = max(moments, key=lambda parts: sum(parts.values()))
    parts = {
        "weights": frozen / cards,
        "gradients": most["gradients"],
        "optimizer": _states(shape, training, trained) / cards,
        **most,
    }
    if cards > 1:  # a layer, and what embeds and predicts, are whole while they are used
        copies = 2 if lora is None else 1  # with their gradients
        parts["gathered"] = 2 * width_of_base * shape.linear_parameters / shape.layers
        parts["gathered"] += copies * width_of_base * shape.other_parameters
    return {name: round(size) for name, size in parts.items() if size}


def _is_one_pass(shape: ModelShape, training: TrainingConfig, item: Item, device: str) -> bool:
    """Whether all items of a step go through the model together, were they the longest."""
    count, alone = training.batch_size, _alone(shape, training, item)
    if count == 1:
        return True
    if (training.micro_batch_size or count) < count:
        return False
    budget = PassBudget(shape, training, device)
    if packs(shape, training):
        return count * alone.tokens <= budget.most_tokens()
    return budget.most_items(alone, count) == count


def _of_one_pass(
    shape: ModelShape, gradients: float, of_head: float, parts: dict[str, float]
) -> Iterator[dict[str, float]]:
    """A step's only pass: the head has its gradient while all layers have their activations.

    The gradients of all layers are there when the first layer alone still has activations.
    """
    yield {"gradients": of_head, **parts}
    first = parts["activations"] / shape.layers
    yield {"gradients": gradients, **parts, "activations": first}


def _states(shape: ModelShape, training: TrainingConfig, trained: int) -> int:
    count = shape.norms * shape.layers + 1
    norms = shape.hidden * count if training.lora is None else 0
    small = {shape.hidden: count} if norms else {}
    return state_bytes(training.optimizer_states, {trained - norms: 1, **small})


def _changes(
    shape: ModelShape, training: TrainingConfig, item: Item, device: str
) -> list[tuple[str, TrainingConfig, Item]]:
    """Settings that take less, those first that change least of what is learned."""
    found: list[tuple[str, TrainingConfig, Item]] = []
    if not training.gradient_checkpointing:
        again = training.model_copy(update={"gradient_checkpointing": True})
        found.append(("gradient_checkpointing = true", again, item))
    packed = packs(shape, training)
    if packed and pack_budget(training, device) > item.tree:
        less = training.model_copy(update={"tokens_per_micro_batch": item.tree})
        found.append((f"tokens_per_micro_batch = {item.tree}", less, item))
    if not packed and (training.micro_batch_size or training.batch_size) > 1:
        found.append(
            ("micro_batch_size = 1", training.model_copy(update={"micro_batch_size": 1}), item)
        )
    base = found[0][1] if found else training
    if training.lora is None:
        short = base.model_copy(update={"weights": "bfloat16", "optimizer_states": "int8"})
        found.append(('weights = "bfloat16" and optimizer_states = "int8"', short, item))
    elif training.weights_on(device) != "nf4":
        found.append(('weights = "nf4"', base.model_copy(update={"weights": "nf4"}), item))
    half = replace(item, completions=tuple(-(-n // 2) for n in item.completions))
    found.append((f"max_length = {half.prompt + max(half.completions)}", base, half))
    return found
