"""How long a question takes on a machine that does other things too: the time that it waited for a core is left out.

Linux counts for each thread how long it was ready to run and had no core. A question may wait in this thread and in the
server's, one after the other or both at once, so only the longer waiting is left out: what remains is never too little.
"""

import os
import threading
import time
from pathlib import Path

from sqlalchemy import Connection

SERVER_THREAD = {
    "postgresql": "SELECT pg_backend_pid()",
    "mysql": "SELECT tid FROM information_schema.processlist WHERE id = CONNECTION_ID()",
}


class Stopwatch:
    """Measures in one thread what is asked through one connection to a database of this machine."""

    def __init__(self, connection: Connection) -> None:
        threads = [threading.get_native_id()]
        question = SERVER_THREAD.get(connection.dialect.name.replace("mariadb", "mysql"))
        if question:
            threads.append(int(connection.exec_driver_sql(question).scalar_one()))
        # Of a server elsewhere, or on another system, only the clock is known.
        files = [Path(f"/proc/{thread}/schedstat") for thread in threads]
        self._files = [file for file in files if os.access(file, os.R_OK)]
        self._waits_ns = self._waits()
        self._begun_ns = time.perf_counter_ns()

    def elapsed_ms(self) -> float:
        """Return the time since the beginning but for the waiting."""
        spent_ns = time.perf_counter_ns() - self._begun_ns
        waits = [after - before for before, after in zip(self._waits_ns, self._waits(), strict=True)]
        return (spent_ns - max(waits, default=0)) / 1e6

    def _waits(self) -> list[int]:
        return [int(file.read_text().split()[1]) for file in self._files]
