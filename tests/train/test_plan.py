from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from residency.config import TrainSettings
from residency.hardware import Hardware
from residency.train.plan import make_plan, row_order


def machine(*flags: str) -> Hardware:
    return Hardware(processor="p", cores=2, memory=2**33, flags=frozenset(flags))


def plan(rows: int = 350, parameters: int = 135_000_000, flags: str = "avx2", **given):
    return make_plan(
        TrainSettings(**given), parameters=parameters, lengths=[60] * rows, hardware=machine(flags)
    )


def test_smaller_models_learn_at_higher_rates() -> None:
    rates = [plan(parameters=n).learning_rate for n in (135e6, 500e6, 1.5e9, 7e9)]
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 4


def test_what_is_set_is_kept_and_said() -> None:
    made = plan(learning_rate=3e-4, rank=32)
    assert (made.learning_rate, made.rank, made.alpha) == (3e-4, 32, 64)
    assert "learning rate 0.0003: as set" in made.reasons
    assert "alpha 64: twice the rank" in made.reasons


def test_bfloat16_only_where_the_processor_has_it() -> None:
    assert plan(flags="avx512f").precision == "float32"
    assert plan(flags="amx_bf16").precision == "bfloat16"


def test_fewer_rows_are_shown_more_often() -> None:
    assert [plan(rows=n).epochs for n in (100, 450, 650, 5000)] == [6.0, 2.4, 1.6, 1.4]


@settings(max_examples=60)
@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=200),
    epochs=st.integers(1, 3),
    batch=st.integers(1, 9),
)
def test_every_epoch_shows_every_row_once(lengths: list[int], epochs: int, batch: int) -> None:
    order = row_order(lengths, epochs=epochs, batch=batch, seed=1)
    assert Counter(order) == dict.fromkeys(range(len(lengths)), epochs)


def test_batches_have_rows_of_like_length() -> None:
    lengths = [(i * 37) % 200 + 1 for i in range(256)]
    order = row_order(lengths, epochs=1, batch=8, seed=5)
    batches = [[lengths[r] for r in order[i : i + 8]] for i in range(0, 256, 8)]
    padding = sum(max(b) * 8 - sum(b) for b in batches)
    in_file_order = sum(max(b) * 8 - sum(b) for b in (lengths[i : i + 8] for i in range(0, 256, 8)))
    assert padding < in_file_order / 4


def test_the_order_depends_on_the_seed_alone() -> None:
    lengths = list(range(50))
    first = row_order(lengths, epochs=2, batch=4, seed=1)
    assert first == row_order(lengths, epochs=2, batch=4, seed=1)
    assert first != row_order(lengths, epochs=2, batch=4, seed=2)
