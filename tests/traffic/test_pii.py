"""Personal data with a form is found where it stands; what only looks like it is left."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from residency.traffic.pii import Kind, find

HERE = Path(__file__).parent

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
PHONE   | mob |07700900123|
PHONE   | at |07700900123|
PHONE   | text me: |5551234567|
PHONE   | 座机|62345678|
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
SSN     | social security number, that is |123 45 6789|
MRN     | MRN: |A1234567|
MRN     | medical record number is |00123-4|
MRN     | 病历号：|0012345|
MRN     | NHS no. |485 777 3456| was wrong
MRN     | the hospital number |RX-20418|
MRN     | 就诊卡号是|88100422|，丢了
MRN     | 患者ID：|T30991|
MRN     | {"mrn": "|12345678|"}
CN_ID   | 身份证|11010519491231002X|
CN_ID   | |11010519491231002x|
CN_ID   | |110105 19491231 002X|
ADDRESS | at |12 High Street|.
ADDRESS | to |31 Willow Grove, Exeter EX4 6NA|.
ADDRESS | |708 Pine Street, Suite 20, San Jose, CA 95112| now
ADDRESS | in |Flat 2, 40 Station Road, York YO1 7HH|, from May
ADDRESS | |PO Box 118, Salem, OR 97301|, not home
ADDRESS | 公司在|天津市和平区南京路189号津汇广场2座18层|
ADDRESS | 寄到|重庆市渝北区龙山一路5号2栋301室|
ADDRESS | 我家是|幸福小区12栋1单元302|，谢谢
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
坐2号线到南京路，3号口出
the patient took 500 mg at 18:00
box 12, Row 4, York YO1 7HH
这个小区有12栋楼
3 days close to the beach
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


def test_the_held_out_sentences_are_apart_and_well_marked() -> None:
    held_out, tuning = (
        tomllib.loads((HERE / f"pii_{name}.toml").read_text()) for name in ("held_out", "tuning")
    )
    for language in ("en", "zh"):
        sentences = held_out[language]
        assert len(set(sentences)) == len(sentences) >= 100
        assert not {*sentences} & {*tuning[language], *lines(FOUND), *lines(LEFT)}
        kinds = {kind for s in sentences for kind in re.findall(r"\{(\w+):[^{}]+\}", s)}
        assert kinds <= {*get_args(Kind), "NAME"}
        assert not any(re.search(r"[{}]", re.sub(r"\{\w+:[^{}]+\}", "", s)) for s in sentences)


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
    [
        *("1-", "a@", "a.", "@a.", "1", "路1", "中", "mrn no no 1", "1 A B C D ", "GB82 ", "+1 ("),
        *("Flat 1 ", "PO box 1, A", "1 A Street, A", "路1号中园", "路一段1栋", "110105 "),
    ],
)
def test_no_text_takes_more_than_linear_time(part: str) -> None:
    # A pattern that went wrong on these would not come back for hours.
    find(part * 20_000 + "@" + part * 2_000)
