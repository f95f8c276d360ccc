"""Whether anything was logged as an error: of the library's own, that is, for no peer can cause one."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Collector(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def no_errors_logged() -> Iterator[None]:
    """Fail if the library logs an error in this block."""
    collector, logger = _Collector(), logging.getLogger("trio_ws")
    logger.addHandler(collector)
    try:
        yield
    finally:
        logger.removeHandler(collector)
    for record in collector.records:
        error = record.exc_info[1] if record.exc_info else None
        raise AssertionError(record.getMessage()) from error
