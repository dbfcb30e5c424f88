"""Words, and categories by words."""

from residency.traffic.words import ByWords, words


def test_words_of_scripts_with_and_without_spaces() -> None:
    assert words("Where is my card_2?") == ["where", "is", "my", "card", "2"]
    assert words("我的card呢") == ["我", "的", "card", "呢"]


def test_a_text_goes_where_its_words_are() -> None:
    texts = ["cancel my order", "cancel the order", "reset a password", "forgot my password"]
    by_words = ByWords(texts, [0, 0, 1, 1])
    assert by_words.label("please cancel order 7") == 0
    assert by_words.label("password lost") == 1
