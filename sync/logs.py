"""Logging to stderr: text for people, JSON lines for collectors, secrets redacted in both."""

import json
import logging
import sys
from datetime import UTC, datetime

FIELDS = ("run_id", "region_id")
"""The fields that log lines carry beside their message."""

_hidden: set[str] = set()


def hide(*secrets: str) -> None:
    """Keep these texts out of every later log line and of everything that passes ``redact``."""
    _hidden.update(secret for secret in secrets if secret)


def redact(text: str) -> str:
    """Return ``text`` with each hidden secret replaced by ``***``."""
    # The longest first: a secret inside another one would leave the rest of that one behind.
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


class TextFormatter(logging.Formatter):
    """Lines such as ``2026-11-22 14:30:00 UTC WARNING cn-hangzhou: …``."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line, and a traceback below it where the record has one."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line = f"{moment:%Y-%m-%d %H:%M:%S} UTC {record.levelname} {record.getMessage()}"
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return redact(line)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message and the fields that the record carries."""

    def format(self, record: logging.LogRecord) -> str:
        """Return one line."""
        moment = datetime.fromtimestamp(record.created, UTC)
        entry: dict[str, object] = {
            "time": moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": redact(record.getMessage()),
        }
        entry |= {name: value for name in FIELDS if (value := getattr(record, name, None)) is not None}
        if record.exc_info:
            entry["exception"] = redact(self.formatException(record.exc_info))
        # Redacted before JSON escapes quotes and backslashes, which would make a secret another text.
        return json.dumps(entry, ensure_ascii=False)


def configure_logging(log_format: str, *, is_verbose: bool) -> None:
    """Send warnings (with ``is_verbose`` also the progress of runs) to stderr, in the configured format."""
    is_text = log_format == "text" or (log_format == "auto" and sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(TextFormatter() if is_text else JsonFormatter())
    root = logging.getLogger()
    for earlier in list(root.handlers):
        root.removeHandler(earlier)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    # The credentials library has a scheduler of its own, which complains where the machine was asleep.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    logging.getLogger("sync").setLevel(logging.INFO if is_verbose else logging.WARNING)
