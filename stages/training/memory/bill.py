"""What a training step takes, worked out from a model's shape and the settings.

Everything but `activations` follows from what the code keeps. What autograd keeps of a layer was
read off torch's own saved tensors, one by one; `_layers` says what each number is.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from evals.memory.shape import WIDTH, ModelShape
from schemas.work import Bill
from stages.training.config import TrainingConfig
from stages.training.memory.sizes import pack_budget, state_bytes, tile_tokens

ASSUMED_LENGTH = 2048
"""Tokens of prompt and completion where neither `max_length` nor the model sets less."""

# Of vLLM's and torch's own, and of what the allocator cannot hand out again.
_ALLOCATOR = 1.0


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
    cheaper = {
        said: sum(_parts(shape, changed, changed_item, device, cards).values())
        for said, changed, changed_item in _changes(shape, training, item, device)
    }
    total = sum(parts.values())
    kept = {said: n for said, n in cheaper.items() if n < 0.95 * total}
    return Bill(parts, _about(shape, training, item, device), kept)


def _about(shape: ModelShape, training: TrainingConfig, item: Item, device: str) -> str:
    tokens = _pass_tokens(shape, training, item, device)
    return f"up to {tokens:,} tokens a pass, of items up to {item.tree:,}"


def _packed(shape: ModelShape, training: TrainingConfig) -> bool:
    return training.packing and shape.packs


def _pass_tokens(shape: ModelShape, training: TrainingConfig, item: Item, device: str) -> int:
    """Tokens of the largest forward pass."""
    size = training.micro_batch_size or training.batch_size
    if not _packed(shape, training):
        return size * item.rows
    budget = pack_budget(training, device)
    return max(item.tree, min(budget, size * item.tree))


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
    parts = {
        "weights": frozen / cards,
        "gradients": trained * width / cards,
        "optimizer": _states(shape, training, trained) / cards,
        **_passing(shape, training, item, device),
    }
    if cards > 1:  # a layer, and what embeds and predicts, are whole while they are used
        copies = 2 if lora is None else 1  # with their gradients
        parts["gathered"] = 2 * width_of_base * shape.linear_parameters / shape.layers
        parts["gathered"] += copies * width_of_base * shape.other_parameters
    return {name: round(size) for name, size in parts.items() if size}


def _states(shape: ModelShape, training: TrainingConfig, trained: int) -> int:
    count = shape.norms * shape.layers + 1
    norms = shape.hidden * count if training.lora is None else 0
    small = {shape.hidden: count} if norms else {}
    return state_bytes(training.optimizer_states, {trained - norms: 1, **small})


def _passing(
    shape: ModelShape, training: TrainingConfig, item: Item, device: str
) -> dict[str, float]:
    """What a forward and backward pass takes."""
    tokens = _pass_tokens(shape, training, item, device)
    layers = list(_layers(shape, training, device))
    within = max(layer.within for layer in layers)
    width = _width(training, device)
    stream = shape.hidden * width
    if training.gradient_checkpointing:
        activations = tokens * (shape.layers * stream + max(layer.kept for layer in layers))
    else:
        activations = tokens * sum(layer.count * layer.kept for layer in layers)
    whole = 0 if training.lora else max(max(a * b for a, b in shape.linear), 1) * 4
    normed = training.lora is None and not (shape.packs and _lean(training, device))
    last_norm = tokens * shape.hidden * (4.0 + (width if normed else 0.0))
    parts = {
        "activations": (activations + last_norm) * _ALLOCATOR,
        "backward": tokens * within + whole,
        "head": _head(shape, training, item, device, tokens),
    }
    if training.dtype == "bfloat16" and training.weights_on(device) == "float32":
        parts["cast weights"] = 2 * shape.linear_parameters
    if training.weights_on(device) == "nf4":
        parts["dequantised"] = max(a * b for a, b in shape.linear) * width
    return parts


def _width(training: TrainingConfig, device: str) -> float:
    """Bytes of a number between layers."""
    weights = training.weights_on(device)
    if weights == "bfloat16" or (weights == "nf4" and device == "cuda"):
        return 2.0
    return 4.0


@dataclass(frozen=True)
class _Layers:
    """So many layers, and bytes per token that each keeps, and that its backward takes besides."""

    count: int
    kept: float
    within: float


def _layers(shape: ModelShape, training: TrainingConfig, device: str) -> Iterator[_Layers]:
    """Layers by what mixes tokens in them.

    Norms keep what they read, in float32, and what they have normalised where they are trained.
    Attention keeps query, key and value, on a GPU the last two of every head; an MLP gate, its
    activation and up. Linear modules keep what they read: shared by those that read the same, but
    with a copy for each where it is cast, for autocast or for adapters of another format than their
    base. Lean layers make again what was normalised, activated and gated.
    """
    low, stream = training.dtype == "bfloat16", _width(training, device)
    trained, mixed = training.lora is None, low and stream == 4.0
    inner = 2.0 if low else stream
    adapted = 2.0 if low or (stream == 2.0 and trained) else 4.0
    copies = mixed or (stream == 2.0 and not trained)
    lean = shape.packs and _lean(training, device)
    lean_mlp = lean and shape.gated and shape.experts == 1 and training.weights != "nf4"
    norms = shape.norms * shape.hidden * (4.0 + (stream if trained and not lean else 0.0))
    gated = 2 if lean_mlp else 3
    mlp = shape.inside * inner * (gated if shape.gated else 1)
    mlp += 0.0 if lean_mlp else shape.inside * adapted
    streams = (2 if shape.gated else 1) if shape.mlp else 0
    rank = training.lora.rank if training.lora is not None else 0
    common = norms + mlp + len(shape.linear) * rank * (2.0 if low else 4.0)
    backward = (5 if lean_mlp else 3) * shape.inside
    if shape.attending:
        keys = shape.kv_heads * shape.head if device == "cpu" else shape.attended
        attention = shape.attended * (4.0 if mixed else inner)
        attention += keys * (4.0 + 2.0 if mixed else 2 * inner)
        into = 0 if lean else (3 + streams) if copies else 1 + min(streams, 1)
        read = into * shape.hidden + shape.attended
        kept = common + attention + read * adapted
        yield _Layers(shape.attending, kept, (backward + 2 * shape.hidden) * inner)
    for count, mixer in shape.mixers:
        into = 0 if lean else (1 + streams) if copies else 1 + min(streams, 1)
        kept = common + mixer.kept * inner + mixer.exact * 4.0
        kept += (into * shape.hidden + mixer.read) * adapted
        numbers = max(backward, mixer.backward) + 2 * shape.hidden
        yield _Layers(count, kept, numbers * inner)


def _lean(training: TrainingConfig, device: str) -> bool:
    """Whether norms and MLPs keep less than autograd would: see `engines.lean_layers`."""
    plain = training.dtype == "bfloat16" or _width(training, device) == 2.0
    return (
        device == "cpu" and training.packing and not plain and not training.gradient_checkpointing
    )


def _head(
    shape: ModelShape, training: TrainingConfig, item: Item, device: str, tokens: int
) -> float:
    """Logits of a tile, and the hidden states of the pass with their gradient."""
    width = 2.0 if training.dtype == "bfloat16" else 4.0
    completions = sum(item.completions)
    if not _packed(shape, training):
        size = training.micro_batch_size or training.batch_size
        return 3 * 4 * size * completions * shape.vocab
    tile = min(tokens, 2 * tile_tokens(device, round(shape.vocab * width)))
    cast = 0.0 if width == _width(training, device) else shape.vocab * shape.hidden * width
    return tile * shape.vocab * width + 3 * tokens * shape.hidden * width + cast


def _changes(
    shape: ModelShape, training: TrainingConfig, item: Item, device: str
) -> list[tuple[str, TrainingConfig, Item]]:
    """Settings that take less, those first that change least of what is learned."""
    found: list[tuple[str, TrainingConfig, Item]] = []
    if not training.gradient_checkpointing:
        again = training.model_copy(update={"gradient_checkpointing": True})
        found.append(("gradient_checkpointing = true", again, item))
    packed = _packed(shape, training)
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
