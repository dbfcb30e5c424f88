"""The shape of a model that begins from nothing: a Llama within a budget of weights."""

from __future__ import annotations

from dataclasses import dataclass

from residency.errors import SettingsError

# K-quants pack 256 weights of a row together; a row of another length falls back to wider types.
_BLOCK = 256
_HEAD = 64  # the width of a head in most models of this kind
# So many at least: to copy in order, some look for what comes next while others look for what is
# meant. For two million weights 8 heads of their own, of half the width, were used (docs/log.md).
_FEWEST_HEADS = 8
# Width by layers of models that were tuned at a given size: GPT-2 64, SmolLM2-135M 19, Llama 128.
# Below ten million weights depth is what is scarce: two layers are the least that can copy what
# stands after an earlier like token (Olsson et al. 2022, induction heads).
_WIDTH_BY_LAYERS = 64
_FEWEST_LAYERS = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnShape:
    """Sizes of a Llama with tied embeddings; `hidden` is the feed-forward's width."""

    width: int
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    vocabulary: int

    @property
    def weights(self) -> int:
        """How many weights it has, norms included."""
        kv = self.width * self.kv_heads // self.heads
        layer = 2 * self.width * (self.width + kv) + 3 * self.width * self.hidden + 2 * self.width
        return self.vocabulary * self.width + self.layers * layer + self.width


def own_shape(budget: int, vocabulary: int) -> OwnShape:
    """The shape with most weights within `budget` whose width suits its depth.

    Widths are multiples of 256, or 128 and 64 where the budget is too small for that. Raises
    `SettingsError` where not even that fits beside `vocabulary` tokens.
    """
    found: list[OwnShape] = []
    for width in (64, 128, *range(_BLOCK, 4096 + 1, _BLOCK)):
        shape = _deepest(budget, vocabulary, width)
        if shape.layers >= _FEWEST_LAYERS:
            found.append(shape)
    whole = [one for one in found if one.width % _BLOCK == 0] or found[-1:]
    if not whole:
        least = _sized(64, vocabulary, _FEWEST_LAYERS).weights
        raise SettingsError(
            f"[train] parameters {budget:,} is too few for a vocabulary of {vocabulary:,} tokens",
            hint=f"set at least {least:,}, or a smaller vocabulary",
        )
    return min(whole, key=lambda one: abs(one.width / one.layers - _WIDTH_BY_LAYERS))


def _deepest(budget: int, vocabulary: int, width: int) -> OwnShape:
    one = _sized(width, vocabulary, 1)
    layer = _sized(width, vocabulary, 2).weights - one.weights
    return _sized(width, vocabulary, 1 + max(-1, (budget - one.weights) // layer))


def _sized(width: int, vocabulary: int, layers: int) -> OwnShape:
    heads = max(_FEWEST_HEADS, width // _HEAD)
    hidden = 8 * width // 3 // _BLOCK * _BLOCK or 2 * width  # 8/3: Llama's
    return OwnShape(
        width=width,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=heads if heads == _FEWEST_HEADS else heads // 2,
        vocabulary=vocabulary,
    )
