"""Who knows a price: the user's own numbers, the cache, then AWS, which is asked while Terraform plans."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from datetime import datetime, timezone
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from daft_launcher.models import Offer, Rate
from daft_launcher.price_cache import PriceCache
from daft_launcher.prices import PriceReport, planned_fleet, running_fleet
from daft_launcher.tools import Tools

if TYPE_CHECKING:
    from daft_launcher.config import ClusterConfig

OWN_NUMBERS = "[prices] in the configuration"
# From the moment of asking: by then Terraform still plans, or nobody answers.
PATIENCE_SECONDS = 5.0


class PriceInquiry:
    """The prices of one cluster. A price that cannot be had in time is unknown, and never an error."""

    def __init__(self, config: ClusterConfig, tools: Tools, *, patience: float = PATIENCE_SECONDS) -> None:
        self._config = config
        self._provider = tools.provider
        self._cache = PriceCache(tools.cache / "prices", today=datetime.now(timezone.utc).date())
        self._patience = patience
        self._after = planned_fleet(config)
        self._rates: dict[Offer, Rate] = {}
        self._asked: list[tuple[threading.Thread, float]] = []

    def start(self) -> None:
        """Begin to look up what the configuration asks for."""
        self._look_up(self._after)

    def report(self, plan: Mapping[str, Any] | None) -> PriceReport | None:
        """Return the prices before and after, None where nothing costs anything.

        `plan` is Terraform's JSON form of one, None for a plan of no change.
        """
        if not self._after:
            return None
        before = self._after if plan is None else running_fleet(plan, self._config.setup.region)
        self._wait()
        self._look_up(offer for offer in before if offer not in self._rates and offer not in self._after)
        self._wait()
        late = Rate(reason=f"no answer within {self._patience:.0f} seconds")
        known = dict(self._rates)
        rates = {offer: known.get(offer, late) for offer in sorted({*before, *self._after})}
        return PriceReport(before=before, after=self._after, rates=rates)

    def _look_up(self, offers: Iterable[Offer]) -> None:
        unknown = []
        for offer in offers:
            rate = self._own_rate(offer) or self._cache.find(offer)
            if rate:
                self._rates[offer] = rate
            else:
                unknown.append(offer)
        if unknown:
            # A daemon, so that an AWS that does not answer keeps nobody waiting.
            thread = threading.Thread(target=self._ask, args=(unknown,), daemon=True, name="prices")
            self._asked.append((thread, time.monotonic() + self._patience))
            thread.start()

    def _ask(self, offers: Iterable[Offer]) -> None:
        for offer in offers:
            try:
                rate = self._provider.find_rate(offer, cluster=self._config.setup.name)
            except Exception as error:
                rate = Rate(reason=f"{type(error).__name__}: {error}")
            self._cache.keep(offer, rate)
            self._rates[offer] = rate

    def _wait(self) -> None:
        for thread, until in self._asked:
            thread.join(max(0.0, until - time.monotonic()))

    def _own_rate(self, offer: Offer) -> Rate | None:
        prices = self._config.prices
        if offer.kind == "volume":
            usd = prices.gp3_gb_month if offer.type == "gp3" else None
        else:
            own = prices.spot_hour if offer.kind == "spot" else prices.instance_hour
            usd = own.get(offer.type)
        return None if usd is None else Rate(usd=Decimal(str(usd)), source=OWN_NUMBERS)
