"""What the provider says, asked while Terraform plans: the two together take as long as the slower one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

from daft_launcher.errors import DaftLauncherError
from daft_launcher.models import Provider


class Survey:
    """Ask a provider for access and for dead resources, in a thread that runs while the context is open.

    When the provider refuses, `stop` is called to end what runs beside it, and the context ends with the
    provider's own error: it says what is wrong in fewer words than Terraform, and sooner. `then` is called
    when the provider has given access.
    """

    def __init__(
        self,
        provider: Provider,
        directory: Path,
        *,
        stop: Callable[[], None],
        then: Callable[[], None] = lambda: None,
    ) -> None:
        self._provider = provider
        self._directory = directory
        self._stop = stop
        self._then = then
        self._dead: list[str] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._ask, daemon=True, name="survey")

    def dead_resources(self) -> list[str]:
        """Return the answer. Raises ProviderError when there was none."""
        self._thread.join()
        if self._error:
            raise self._error
        return self._dead

    def __enter__(self) -> Survey:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, DaftLauncherError):
            self._thread.join()
            if self._error and self._error is not error:
                raise self._error from None

    def _ask(self) -> None:
        try:
            self._provider.check_access()
            self._then()
            self._dead = self._provider.dead_resources(self._directory)
        except BaseException as error:
            self._error = error
            self._stop()
