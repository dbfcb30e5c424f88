"""Personal data with a form is found where it stands; what only looks like it is left."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.traffic.pii import find

FOUND = """
EMAIL   | write to |o'neil+tag@mail.example.co.uk|.
EMAIL   | 请联系|info@example.com|联系我们
EMAIL   | an |josé@münchen.example|
EMAIL   | (|a@b.example.com|)
PHONE   | |+44 (0)20 7946 0958| is it
PHONE   | |+1 555-234-5678|
PHONE   | call |(555) 234-5678|, please
PHONE   | |555.234.5678| or so
PHONE   | |1-800-234-5678|
PHONE   | |020 7946 0958|
PHONE   | appelez le |06 12 34 56 78|
PHONE   | 请打|010-12345678|
PHONE   | 手机|13812345678|，谢谢
PHONE   | |138 1234 5678|
PHONE   | |+86 13812345678|
PHONE   | my phone number is |5551234567|
PHONE   | 电话：|62345678|
CARD    | |4111 1111 1111 1111|
CARD    | |4111-1111-1111-1111|.
CARD    | |5555555555554444|
CARD    | amex |3782 822463 10005|
CARD    | |30569309025904|
CARD    | |6011111111111117|
CARD    | |3530111333300000|
IBAN    | |DE89 3704 0044 0532 0130 00| PLEASE
IBAN    | |GB82WEST12345698765432|
IBAN    | |no9386011117947|,
SSN     | |123-45-6789|
SSN     | SSN: |123456789|
SSN     | social security number |123 45 6789|
MRN     | MRN: |A1234567|
MRN     | medical record number is |00123-4|
MRN     | 病历号：|0012345|
MRN     | {"mrn": "|12345678|"}
CN_ID   | 身份证|11010519491231002X|
CN_ID   | |11010519491231002x|
ADDRESS | at |12 High Street|.
ADDRESS | |221B Baker Street, Apt 4B| now
ADDRESS | |5 Old Oak Dr|, we said
ADDRESS | |1600 N. 5th Ave| is
ADDRESS | |12 downing street|
ADDRESS | 我住在|北京市海淀区中关村大街27号院3号楼2单元501室|。
ADDRESS | 地址：|上海市南京东路100号|
"""

LEFT = """
@someone said a@b, and @ once more
4111 1111 1111 1112
1234 5678 9012 3456
DE88 3704 0044 0532 0130 00
DE89 3704 0044 0532 0130
000-12-3456, 666-12-3456, 900-12-3456, 123-00-4567, 123-45-0000
a pack of 123456789
110105194912310021
110105194913310020
2026-11-24 10:00, 24/11/2026, 01.02.2026 12:30
call on 2026-11-24 10:00
3.14159265358979 and 0.5551234567
192.168.100.200
1 2 3 4 5 6 7 8 9 10 11 12
1700000000 and 1700000000000
ISBN 978-3-16-148410-0
at 10 AM Dr. Patel comes
10 miles down the road
500 mg twice a day for 7 days, then 250 mg
blood pressure 120/80, pulse 72, 38.5 °C
我知道3号楼
order_13812345678
req_5551234567
第12条第3款
"""


def lines(text: str) -> list[str]:
    return text.strip().splitlines()


@pytest.mark.parametrize("line", lines(FOUND))
def test_it_is_found_where_it_stands(line: str) -> None:
    kind, before, value, after = line.split("|")
    text = before[1:] + value + after
    expected = (kind.strip(), len(before) - 1, len(before) - 1 + len(value))
    assert [tuple(span) for span in find(text)] == [expected]


@pytest.mark.parametrize("text", lines(LEFT))
def test_what_only_looks_like_it_is_left(text: str) -> None:
    assert [(kind, text[start:end]) for kind, start, end in find(text)] == []


def test_several_in_one_text_are_in_order() -> None:
    text = "4111 1111 1111 1111 123 Main Street, a@example.com 13812345678 13912345678"
    assert [span.kind for span in find(text)] == ["CARD", "ADDRESS", "EMAIL", "PHONE", "PHONE"]


def test_names_are_not_found() -> None:
    assert find("Ada Lovelace was born on 10 December 1815") == []


@given(st.text(st.sampled_from("019 -.@+()/aDXé号街路年:\n") | st.characters(), max_size=80))
def test_spans_are_ordered_apart_and_within_the_text(text: str) -> None:
    end = 0
    for span in find(text):
        assert end <= span.start < span.end <= len(text)
        end = span.end


@pytest.mark.parametrize(
    "part",
    ["1-", "a@", "a.", "@a.", "1", "路1", "中", "mrn no no 1", "1 A B C D ", "GB82 ", "+1 ("],
)
def test_no_text_takes_more_than_linear_time(part: str) -> None:
    # A pattern that went wrong on these would not come back for hours.
    find(part * 20_000 + "@" + part * 2_000)
