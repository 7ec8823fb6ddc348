"""Prices that AWS said lately, on disk, so that a plan does not wait for them again."""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

from daft_launcher.models import Offer, Rate

KEPT_DAYS = 30


class PriceCache:
    """A small file for each region and type; one that cannot be read is written anew.

    Spot prices are not kept: they hold for an hour, those of the price list for months.
    """

    def __init__(self, folder: Path, *, today: date) -> None:
        self._folder = folder
        self._today = today

    def find(self, offer: Offer) -> Rate | None:
        """Return a rate that is at most 30 days old, None when there is none."""
        if offer.kind == "spot":
            return None
        try:
            document = json.loads(self._file(offer).read_text(encoding="utf-8"))
            rate = Rate(
                usd=Decimal(document["usd"]),
                source=str(document["source"]),
                day=date.fromisoformat(document["day"]),
            )
        except (OSError, ValueError, TypeError, KeyError, InvalidOperation):
            return None
        if rate.usd is None or rate.day is None or not rate.usd.is_finite() or rate.usd < 0:
            return None
        age = self._today - rate.day
        return rate if timedelta(0) <= age <= timedelta(days=KEPT_DAYS) else None

    def keep(self, offer: Offer, rate: Rate) -> None:
        """Keep a rate that has a price and a date, for this user alone."""
        if rate.usd is None or rate.day is None or offer.kind == "spot":
            return
        document = {"usd": str(rate.usd), "source": rate.source, "day": rate.day.isoformat()}
        file = self._file(offer)
        with contextlib.suppress(OSError):
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Written beside and moved: another `daft` may read it now. mkstemp makes it 0600.
            descriptor, name = tempfile.mkstemp(dir=file.parent)
            try:
                with os.fdopen(descriptor, "w", encoding="utf-8") as opened:
                    json.dump(document, opened)
                Path(name).replace(file)
            except BaseException:
                Path(name).unlink(missing_ok=True)
                raise

    def _file(self, offer: Offer) -> Path:
        name = re.sub(r"[^\w.-]", "_", f"{offer.region} {offer.type}")
        return self._folder / f"{name}.json"
