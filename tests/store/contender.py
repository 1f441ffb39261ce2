"""A process that wants leases: each line it reads names a database, the next one starts the race, the next ends it."""

import sys

from sync.errors import LeaseTakenError
from sync.store.database import Database
from sync.store.lease import Lease


def contend(url: str) -> None:
    """Try once to take the lease when told to, and hold what was taken until told otherwise."""
    database = Database(url)
    answer("ready")
    sys.stdin.readline()
    try:
        Lease(database).acquire()
    except LeaseTakenError:
        answer("taken")
    else:
        answer("won")
    sys.stdin.readline()
    database.close()


def answer(word: str) -> None:
    """Say one word to whoever arranged the race."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    while line := sys.stdin.readline().strip():
        contend(line)
