from __future__ import annotations

import numpy as np

from residency.explain.heads import KINDS, look


def one_head(*rows: tuple[float, ...]) -> np.ndarray:
    """Weights (1, 1, T, T) from the rows below and on the diagonal."""
    weights = np.zeros((1, 1, len(rows), len(rows)), dtype=np.float32)
    for place, row in enumerate(rows):
        weights[0, 0, place, : place + 1] = row
    return weights


SINK = one_head((1,), (0.9, 0.1), (0.8, 0.1, 0.1), (0.7, 0.1, 0.1, 0.1))
PREVIOUS = one_head((1,), (0.9, 0.1), (0.1, 0.8, 0.1), (0.1, 0.1, 0.7, 0.1))
ITSELF = one_head((1,), (0.1, 0.9), (0.1, 0.1, 0.8), (0.1, 0.1, 0.1, 0.7))
BACK = one_head((1,), (1, 0), (1, 0, 0), (0.1, 0.9, 0, 0))


def kind(weights: np.ndarray) -> str:
    return KINDS[int(look(weights).kinds[0, 0])]


def test_heads_are_named_by_what_they_look_at_most() -> None:
    assert [kind(w) for w in (SINK, PREVIOUS, ITSELF)] == list(KINDS[:3])
    found = look(SINK)
    np.testing.assert_allclose(found.shares[0, 0], [0.75, 0.1, 0.1, 0.05], atol=1e-6)
    np.testing.assert_allclose(found.sink, [0.75], atol=1e-6)


def test_links_leave_out_the_sink_the_neighbour_and_the_token_itself() -> None:
    found = look(np.concatenate([SINK, PREVIOUS, ITSELF, BACK], axis=1)).links
    # Of four tokens only the last has another one to look at, the second.
    (link,) = found
    assert (link.head, link.source, link.target, link.heads) == (3, 3, 1, 1)
    assert link.share == np.float32(0.9)
    assert link.others == 0  # of the token in between


def test_a_link_that_all_share_is_no_word_s_own() -> None:
    drawn = one_head((1,), (1, 0), (0, 1, 0), (0, 0.9, 0.1, 0), (0, 0.9, 0, 0.1, 0))
    own = one_head((1,), (1, 0), (1, 0, 0), (1, 0, 0, 0), (0.2, 0.8, 0, 0, 0))
    best = look(np.concatenate([drawn, own], axis=1)).links[0]
    assert (best.head, best.source, best.target, best.others) == (1, 4, 1, 0)


def test_other_heads_that_link_the_same_are_counted() -> None:
    half = one_head((1,), (1, 0), (1, 0, 0), (0.55, 0.45, 0, 0))
    (link,) = look(np.concatenate([BACK, half], axis=1)).links
    assert link.heads == 2


def test_a_text_of_three_tokens_has_no_such_link() -> None:
    assert look(SINK[:, :, :3, :3]).links == ()
