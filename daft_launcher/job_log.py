"""Following the log of a job over connections that break: nothing lost, nothing twice, and an end."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator
from typing import Protocol

from daft_launcher.errors import JobError
from daft_launcher.job import ContactLostError, Job, LogIncompleteError, UnreachableError, ways_to

_FIRST_LINE = re.compile(r"\A[\d-]+ [\d:,]+\tINFO job_manager\.py:\d+ -- Runtime env is setting up\.\n")
_LONGEST_FIRST_LINE = 200
_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0


class LogSource(Protocol):
    """Where a job's log comes from. Raises UnreachableError for what may pass, JobError for what will not."""

    def get_job(self, submission_id: str) -> Job:
        """Return what Ray says of a job now."""

    def tail_log(self, submission_id: str) -> Iterator[str | None]:
        """Yield the log from its beginning as it grows, and None when it has not grown for a while.

        It may end at any time.
        """

    def read_log(self, job: Job, *, expected_characters: int) -> Iterator[str]:
        """Yield the log of a job that has ended, from beginning to end."""


def follow_log(
    source: LogSource, submission_id: str, *, reconnect_timeout: float
) -> Generator[str, None, Job]:
    """Yield what a job writes as it comes, each character once, and return the job once all of it was read.

    Goes on after a broken connection from where it was. Raises ContactLostError when nothing has answered for
    `reconnect_timeout` seconds, and LogIncompleteError when the job had ended by then.
    """
    position = LogPosition()
    own = OwnOutput()
    patience = Patience(submission_id, seconds=reconnect_timeout)
    ended = None
    while True:
        before = position.characters
        try:
            job = source.get_job(submission_id)
            if job.ended:
                ended = job
                # A stream may close before the log ends, so what decides is the log as it is afterwards.
                log = source.read_log(job, expected_characters=position.characters)
                yield from own.filter(position.pass_on(log), job)
                yield from own.rest()
                return job
            stream = _until_ended(source, submission_id, longest=reconnect_timeout)
            yield from own.filter(position.pass_on(stream), job)
            patience.reached()
        except JobError as error:
            if ended is None and not isinstance(error, UnreachableError):
                raise
            if position.characters > before:
                patience.reached()
            patience.failed(error, ended=ended)
        patience.pause(eager=position.characters > before)


def _until_ended(source: LogSource, submission_id: str, *, longest: float) -> Iterator[str]:
    """Yield the log until the stream closes, or is silent because the job has ended.

    One that goes on for `longest` seconds after the end of the job is left too.
    """
    asked_at = time.monotonic()
    for piece in source.tail_log(submission_id):
        if piece is not None:
            yield piece
            if time.monotonic() - asked_at < longest:
                continue
        if source.get_job(submission_id).ended:
            return
        asked_at = time.monotonic()


class LogPosition:
    r"""How much of a log has been passed on, in a measure that is the same for every reading of it.

    Ray reads logs in Python's text mode while they grow. A `\r` at the end of what there is becomes a newline,
    and a `\n` that follows later becomes another; read again later, the two are one. So newlines do not count,
    but for those at the very end.
    """

    def __init__(self) -> None:
        self.characters = 0
        self._newlines = 0

    def pass_on(self, log: Iterator[str]) -> Iterator[str]:
        """Yield what is new in a reading that starts from the beginning of the log."""
        replay = _Replay(self.characters, self._newlines)
        for piece in log:
            new = replay.new(piece)
            if new:
                self._advance(new)
                yield new

    def _advance(self, text: str) -> None:
        line_end = len(text.rstrip("\n"))
        if line_end:
            self.characters += line_end - text.count("\n", 0, line_end)
            self._newlines = 0
        self._newlines += len(text) - line_end


class _Replay:
    """Drops what had been passed on when a reading began: so many characters, then so many newlines."""

    def __init__(self, characters: int, newlines: int) -> None:
        self._characters = characters
        self._newlines = newlines

    def new(self, text: str) -> str:
        """Return what of the next piece has not been passed on."""
        start = 0
        while self._characters:
            line_end = text.find("\n", start)
            length = (len(text) if line_end < 0 else line_end) - start
            if length >= self._characters:
                start += self._characters
                self._characters = 0
            else:
                self._characters -= length
                if line_end < 0:
                    return ""
                start = line_end + 1
        while self._newlines and text.startswith("\n", start):
            start += 1
            self._newlines -= 1
        if start < len(text):
            self._newlines = 0
        return text[start:]


class OwnOutput:
    """Drops the two lines that Ray writes into a log: the first one, and one just before the job's or amid it."""

    def __init__(self) -> None:
        self._held = ""
        self._at_start = True
        self._announced = False

    def filter(self, log: Iterator[str], job: Job) -> Iterator[str]:
        """Yield the next pieces of the log of `job`, but for what may turn out to be one of Ray's lines."""
        line = f"Running entrypoint for job {job.submission_id}: {job.entrypoint}\n"
        line = line.replace("\r\n", "\n").replace("\r", "\n")  # as the log itself is read
        for piece in log:
            if piece := self._without(line, self._held + piece):
                yield piece

    def rest(self) -> Iterator[str]:
        """Yield what was held back, now that the log has ended."""
        if self._held:
            yield self._held
        self._held = ""

    def _without(self, line: str, text: str) -> str:
        self._held = ""
        if self._at_start:
            if text[:1].isdigit() and "\n" not in text and len(text) < _LONGEST_FIRST_LINE:
                self._held = text
                return ""
            text = _FIRST_LINE.sub("", text, count=1)
            self._at_start = False
        if self._announced:
            return text
        before, announced, after = text.partition(line)
        self._announced = bool(announced)
        if self._announced:
            return before + after
        starts = (size for size in range(min(len(line), len(text)), 0, -1) if text.endswith(line[:size]))
        kept = len(text) - next(starts, 0)
        self._held = text[kept:]
        return text[:kept]


class Patience:
    """Waits longer from try to try, and gives up when nothing was reached for so many seconds."""

    def __init__(
        self,
        submission_id: str,
        *,
        seconds: float,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._submission_id = submission_id
        self._seconds = seconds
        self._now = now
        self._sleep = sleep
        self._failing_since: float | None = None
        self._pause = _FIRST_PAUSE

    def reached(self) -> None:
        """Note that Ray has answered."""
        self._failing_since = None

    def failed(self, error: JobError, *, ended: Job | None = None) -> None:
        """Note that Ray has not answered; raise when that has gone on for too long."""
        now = self._now()
        if self._failing_since is None:
            self._failing_since = now
        if now - self._failing_since < self._seconds:
            return
        if ended is not None:
            raise LogIncompleteError(
                f"job `{self._submission_id}` has ended ({ended.status.value}), and the rest of its log cannot be "
                f"read: {error.message}",
                job=ended,
                hint=f"`daft logs {self._submission_id}` tries again",
            ) from error
        raise ContactLostError(
            f"contact lost for {self._seconds:g} s: {error.message}",
            hint=f"the job goes on without this program; {ways_to(self._submission_id)}",
        ) from error

    def pause(self, *, eager: bool) -> None:
        """Wait before the next try, each time longer; not at all when the last one has brought something."""
        if eager:
            self._pause = _FIRST_PAUSE
            return
        self._sleep(self._pause)
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
