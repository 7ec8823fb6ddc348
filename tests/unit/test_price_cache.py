"""Prices on disk: what is found again, for how long, and what a damaged file does."""

from __future__ import annotations

import json
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from daft_launcher.models import Offer, Rate
from daft_launcher.price_cache import PriceCache

DAY = date(2026, 3, 1)
OFFER = Offer(kind="on-demand", type="m7g.medium", region="us-west-2")
RATE = Rate(usd=Decimal("0.0408"), source="a list", day=DAY)


def cache(folder: Path, *, later: int = 0) -> PriceCache:
    return PriceCache(folder / "prices", today=DAY + timedelta(days=later))


@pytest.mark.parametrize(("later", "found"), [(0, RATE), (30, RATE), (31, None), (-1, None)])
def test_a_price_is_kept_for_thirty_days(tmp_path: Path, later: int, found: Rate | None) -> None:
    cache(tmp_path).keep(OFFER, RATE)
    assert cache(tmp_path, later=later).find(OFFER) == found


def test_each_region_and_type_has_a_file_that_nobody_else_reads(tmp_path: Path) -> None:
    others = [
        Offer(kind="on-demand", type="m7g.medium", region="eu-west-1"),
        Offer(kind="volume", type="gp3", region="us-west-2"),
    ]
    prices = cache(tmp_path)
    prices.keep(OFFER, RATE)
    assert [prices.find(other) for other in others] == [None, None]
    for other in others:
        prices.keep(other, RATE)
    folder = tmp_path / "prices"
    assert {path.name: oct(path.stat().st_mode & 0o777) for path in [folder, *folder.iterdir()]} == {
        "prices": "0o700",
        "us-west-2_m7g.medium.json": "0o600",
        "us-west-2_gp3.json": "0o600",
        "eu-west-1_m7g.medium.json": "0o600",
    }


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b"null",
        b'"x"',
        *(
            json.dumps({"usd": "0.04", "source": "s", "day": "2026-03-01", **wrong}).encode()
            for wrong in (
                {"usd": "much"},
                {"usd": "NaN"},
                {"usd": "Infinity"},
                {"usd": "-1"},
                {"usd": None},
                {"day": "yesterday"},
                {"day": 3},
            )
        ),
        b'{"usd": "0.04", "source": "s"}',
    ],
)
def test_a_damaged_file_is_as_good_as_none_and_is_written_anew(tmp_path: Path, damage: bytes) -> None:
    prices = cache(tmp_path)
    prices.keep(OFFER, RATE)
    (file,) = (tmp_path / "prices").iterdir()
    file.write_bytes(damage)
    assert prices.find(OFFER) is None
    prices.keep(OFFER, RATE)
    assert (prices.find(OFFER), [file]) == (RATE, list((tmp_path / "prices").iterdir()))


@pytest.mark.parametrize("rate", [Rate(reason="denied"), Rate(usd=Decimal(1), source="mine")])
def test_what_is_no_price_of_a_day_is_not_kept(tmp_path: Path, rate: Rate) -> None:
    cache(tmp_path).keep(OFFER, rate)
    assert list(tmp_path.iterdir()) == []


def test_spot_is_neither_kept_nor_taken_for_the_same_type_on_demand(tmp_path: Path) -> None:
    spot = Offer(kind="spot", type="m7g.medium", region="us-west-2")
    prices = cache(tmp_path)
    prices.keep(spot, RATE)
    assert (prices.find(OFFER), list(tmp_path.iterdir())) == (None, [])
    prices.keep(OFFER, RATE)
    assert (prices.find(spot), prices.find(OFFER)) == (None, RATE)


def test_a_folder_that_cannot_be_written_is_let_be(tmp_path: Path) -> None:
    (tmp_path / "prices").write_text("a file")
    prices = cache(tmp_path)
    prices.keep(OFFER, RATE)
    assert (prices.find(OFFER), (tmp_path / "prices").read_text()) == (None, "a file")


def test_what_cannot_be_moved_into_place_leaves_nothing_behind(tmp_path: Path) -> None:
    in_the_way = tmp_path / "prices" / "us-west-2_m7g.medium.json"
    in_the_way.mkdir(parents=True)
    cache(tmp_path).keep(OFFER, RATE)
    assert list((tmp_path / "prices").iterdir()) == [in_the_way]
