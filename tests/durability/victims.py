"""A process that makes runs in forks of itself and kills each by SIGKILL before its n-th write.

It reads lines ``URL N`` and answers each with ``killed`` or, where the run made fewer writes, with its exit code.
Forks of a process that has imported everything start in no time, which is what makes a hundred deaths affordable.
"""

import itertools
import logging
import os
import signal
import sys

import alembic.command  # noqa: F401  imported once here and not in each fork
import psycopg  # noqa: F401
import pymysql  # noqa: F401
from sqlalchemy import Connection, event

from sync.store.database import Database
from tests.durability.jobs import make_run

WRITES = frozenset({"INSERT", "UPDATE", "DELETE", "CREATE", "DROP"})


def run_until_death(url: str, endpoint: str, write_number: int) -> None:
    """Make a run that dies before its n-th write; a commit counts as a write."""
    database = Database(url)
    numbers = itertools.count(1)

    def die_at_the_nth() -> None:
        if next(numbers) == write_number:
            os.kill(os.getpid(), signal.SIGKILL)

    def before_execute(_connection: Connection, _cursor: object, statement: str, *_: object) -> None:
        if statement.split(maxsplit=1)[0] in WRITES:
            die_at_the_nth()

    event.listen(database.engine, "before_cursor_execute", before_execute)
    event.listen(database.engine, "commit", lambda _: die_at_the_nth())
    make_run(database, endpoint)
    database.close()


def main() -> None:
    """Serve the lines of the standard input."""
    logging.disable()
    endpoint = sys.argv[1]
    for line in sys.stdin:
        url, _, write_number = line.strip().rpartition(" ")
        process_id = os.fork()
        if not process_id:
            run_until_death(url, endpoint, int(write_number))
            os._exit(0)
        status = os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1])
        sys.stdout.write("killed\n" if status == -signal.SIGKILL else f"{status}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
