"""What one forward and backward pass takes, worked out from a model's shape and the settings.

What autograd keeps of a layer was read off torch's own saved tensors, one by one; `_layers` says
what each number is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from evals.memory.shape import ModelShape
from stages.training.config import TrainingConfig
from stages.training.memory.sizes import tile_tokens


@dataclass(frozen=True)
class Pass:
    """Items that go through a model together.

    Attributes:
        tokens: of prompts too, and of what fills rows up.
        scored: of completions.
        rows: that they stand in, of one length.
        again: the first layers, so many, are run again in the backward.
        items: that they are of, as far as it is known.
    """

    tokens: int
    scored: int
    rows: int = 1
    again: int = 0
    items: int = 1

    def times(self, count: int) -> "Pass":
        """So many items of the same sizes."""
        tokens, scored, rows = (count * n for n in (self.tokens, self.scored, self.rows))
        return Pass(tokens, scored, rows, self.again, count * self.items)


def packs(shape: ModelShape, training: TrainingConfig) -> bool:
    """Whether passes are packed, as far as a config can tell."""
    return training.packing and shape.packs


def pass_parts(
    shape: ModelShape, training: TrainingConfig, device: str, one: Pass
) -> dict[str, float]:
    """Bytes by what they are for, beside weights, gradients and the optimizer's states."""
    width = pass_width(training, device)
    parts = max(_moments(shape, training, device, one), key=lambda parts: sum(parts.values()))
    if training.dtype == "bfloat16" and training.weights_on(device) == "float32":
        parts["cast weights"] = 2 * shape.linear_parameters
    if training.weights_on(device) == "nf4":
        parts["dequantised"] = max(a * b for a, b in shape.linear) * width
    return parts


def _moments(
    shape: ModelShape, training: TrainingConfig, device: str, one: Pass
) -> Iterator[dict[str, float]]:
    """What is there when most is there: one of these.

    The head's backward, that of the last layer, or that of a layer which is run again: it is whole
    then, and those behind it are done with. A packed pass has its head's tile, and what the head
    has read, to the end.
    """
    lean = _may_be_lean(shape, training, device) and one.again < shape.layers
    length = one.tokens // one.rows
    plain = list(_layers(shape, training, device, length, lean=False))
    once = list(_layers(shape, training, device, length, lean=lean))
    width = pass_width(training, device)
    whole = 0 if training.lora else max(max(a * b for a, b in shape.linear), 1) * 4
    normed = training.lora is None and not lean
    always = shape.hidden * (4.0 + (width if normed else 0.0)) + one.again * shape.hidden * width
    kept = always + _kept(once, shape.layers - one.again)
    head = _head(shape, training, device, one)
    stays = head if packs(shape, training) else 0.0
    yield {"activations": one.tokens * kept, "head": head}
    if one.again < shape.layers:
        backward = one.tokens * max(layer.within for layer in once) + whole
        yield {"activations": one.tokens * kept, "backward": backward, "head": stays}
    if one.again:
        for layer in plain:
            activations = always + layer.kept - shape.hidden * width  # what it reads is a stream
            backward = one.tokens * layer.within + whole
            yield {"activations": one.tokens * activations, "backward": backward, "head": stays}


def pass_width(training: TrainingConfig, device: str) -> float:
    """Bytes of a number between layers."""
    weights = training.weights_on(device)
    if weights == "bfloat16" or (weights == "nf4" and device == "cuda"):
        return 2.0
    return 4.0


@dataclass(frozen=True)
class Layers:
    """So many layers, and bytes per token that each keeps, and that its backward takes besides."""

    count: int
    kept: float
    within: float


def _kept(layers: Sequence[Layers], count: int) -> float:
    """Bytes of a token in `count` layers: those that keep most, as their order is not known."""
    total = 0.0
    for layer in sorted(layers, key=lambda layer: -layer.kept):
        total += min(count, layer.count) * layer.kept
        count -= min(count, layer.count)
    return total


def _layers(
    shape: ModelShape, training: TrainingConfig, device: str, length: int, *, lean: bool
) -> Iterator[Layers]:
    """Layers by what mixes tokens in them, of rows of so many tokens.

    Norms keep what they read, in float32, and what they have normalised where they are trained.
    Attention keeps query, key and value, on a GPU the last two of every head; an MLP gate, its
    activation and up. Linear modules keep what they read: shared by those that read the same, but
    with a copy for each where it is cast, for autocast or for adapters of another format than their
    base. Lean layers make again what was normalised, activated and gated.
    """
    low, stream = training.dtype == "bfloat16", pass_width(training, device)
    trained, mixed = training.lora is None, low and stream == 4.0
    inner = 2.0 if low else stream
    adapted = 2.0 if low or (stream == 2.0 and trained) else 4.0
    copies = mixed or (stream == 2.0 and not trained)
    lean_mlp = lean and shape.gated and shape.experts == 1 and training.weights != "nf4"
    norms = shape.norms * shape.hidden * (4.0 + (stream if trained and not lean else 0.0))
    gated = 2 if lean_mlp else 3
    mlp = shape.inside * inner * (gated if shape.gated else 1)
    mlp += 0.0 if lean_mlp else shape.inside * adapted
    streams = (2 if shape.gated else 1) if shape.mlp else 0
    rank = training.lora.rank if training.lora is not None else 0
    common = norms + mlp + len(shape.linear) * rank * (2.0 if low else 4.0)
    backward = (4 if lean_mlp else 2) * shape.inside
    cast = shape.inside * adapted if stream == 2.0 and not trained else 0.0
    if shape.attending:
        keys = shape.kv_heads * shape.head if device == "cpu" else shape.attended
        attention = shape.attended * (4.0 if mixed else inner)
        attention += keys * (4.0 + 2.0 if mixed else 2 * inner)
        into = 0 if lean else (3 + streams) if copies else 1 + min(streams, 1)
        read = into * shape.hidden + shape.attended
        kept = common + attention + read * adapted
        within = (backward + 2 * shape.hidden) * inner + cast
        yield Layers(shape.attending, kept, within)
    for count, mixer in shape.mixers:
        into = 0 if lean else (1 + streams) if copies else 1 + min(streams, 1)
        kept = common + mixer.kept * inner + mixer.exact * mixer.filled(length) * 4.0
        kept += (into * shape.hidden + mixer.read) * adapted
        numbers = max(backward, mixer.backward) + 2 * shape.hidden
        yield Layers(count, kept, numbers * inner + cast)


def _may_be_lean(shape: ModelShape, training: TrainingConfig, device: str) -> bool:
    """Whether norms and MLPs keep less than autograd would: see `engines.lean_layers`."""
    plain = training.dtype == "bfloat16" or pass_width(training, device) == 2.0
    return device == "cpu" and packs(shape, training) and not plain


def _head(shape: ModelShape, training: TrainingConfig, device: str, one: Pass) -> float:
    """Logits of a tile, and the hidden states of the pass with their gradient."""
    width = 2.0 if training.dtype == "bfloat16" else 4.0
    if not packs(shape, training):
        return 3 * 4 * one.scored * shape.vocab
    tile = tile_tokens(device, round(shape.vocab * width))
    if one.items > 1 or one.scored <= 2 * tile:  # one item may have a tile of up to twice the size
        tile = min(one.scored, 2 * tile)
    cast = 0.0 if width == pass_width(training, device) else shape.vocab * shape.hidden * width
    return tile * shape.vocab * width + 3 * one.tokens * shape.hidden * width + cast
