"""Categories by words."""

from residency.traffic.by_words import ByWords


def test_a_text_goes_where_its_words_are() -> None:
    texts = ["cancel my order", "cancel the order", "reset a password", "forgot my password"]
    by_words = ByWords(texts, [0, 0, 1, 1])
    assert by_words.label("please cancel order 7") == 0
    assert by_words.label("password lost") == 1
