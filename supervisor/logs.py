"""The daemon's own log: one JSON object a line, rotated by itself (launchd does not rotate)."""

import logging
import logging.handlers
import sys
from pathlib import Path

import structlog

_BYTES = 5_000_000
_FILES = 3


def set_up(path: Path, *, terminal: bool) -> None:
    """Send structlog to `path`, and to the terminal when a person looks on."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=_BYTES, backupCount=_FILES, encoding="utf-8")
    path.chmod(0o600)
    shared: list[structlog.types.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    handler.setFormatter(_formatter(shared, structlog.processors.JSONRenderer(default=str)))
    handlers: list[logging.Handler] = [handler]
    if terminal:
        screen = logging.StreamHandler(sys.stderr)
        screen.setFormatter(_formatter(shared, structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())))
        handlers.append(screen)
    logging.basicConfig(level=logging.INFO, handlers=handlers, force=True)
    # watchdog complains of its own orderly end.
    logging.getLogger("watchdog").setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )


def _formatter(
    shared: list[structlog.types.Processor], renderer: structlog.types.Processor
) -> structlog.stdlib.ProcessorFormatter:
    clean = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=shared, processors=[clean, renderer])
