"""CPU that reading a run's answers takes: 25,000 ListImages answers of 80 rows, as a run without change sees them.

Run as ``python -m benchmarks.parse``.
"""

import time
from collections.abc import Iterable

from benchmarks.loopback import images_body
from sync.ehpc.parse import parse_images

ANSWERS = 25_000
ROWS = 80


def measured(answers: Iterable[bytes]) -> str:
    """Return the CPU that reading the answers took."""
    start = time.process_time()
    for answer in answers:
        images = parse_images(answer)
    spent_s = time.process_time() - start
    return f"{ANSWERS} answers of {len(images)} images: {spent_s:.2f} s CPU, {spent_s / ANSWERS * 1e6:.0f} us each"


def main() -> None:
    """Parse as many answers as a large run gets; each body is another object, as if it came from the network."""
    body = images_body(ROWS)
    same_lists = (body.replace(b"04F0F334", b"%08d" % number) for number in range(ANSWERS))
    print("lists seen before:", measured(same_lists))
    other_lists = (body.replace(b'"OsTags"', b'"Other": %d, "OsTags"' % number) for number in range(ANSWERS))
    print("rows seen before: ", measured(other_lists))


if __name__ == "__main__":
    main()
