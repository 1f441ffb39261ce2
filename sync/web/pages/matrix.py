"""The matrix: instance types of one region, those with the same images folded, and the OS images that they have."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from sqlalchemy import Connection

from sync.errors import ConfigError
from sync.inventory import IMAGE_FIELDS, Image
from sync.matrix import GROUPS_SHOWN, Group, Matrix, find_group_beginnings, find_matrix, natural_order
from sync.render import Row, counted, image_name
from sync.store.filters import Filter
from sync.store.history import find_first_observation, list_regions_of
from sync.store.snapshot import AVAILABLE
from sync.web.visit import Answer, Page, Visit, address

LARGEST_PAGE = 1000

Held = Sequence[tuple[Image, datetime | None]]
"""Images of one OS, with since when they are missing."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What the instance types of one group have of one OS."""

    kind: str
    """``available``, ``unknown`` (last known), ``missing`` (its removal is held), else ``absent`` or ``unseen``."""
    said: str
    title: str = ""
    """The ids."""


@dataclass(frozen=True, slots=True)
class Line:
    """One OS: its tag, or the name of an image without tag."""

    name: str
    """What people call it."""
    asked: str
    """By what the page of its images is asked."""
    platform: str
    image_ids: tuple[str, ...]
    cells: tuple[tuple[int, Cell | None], ...]
    """What is not absent from left to right, each behind so many absent ones; at the end there may be only these."""


@dataclass(frozen=True, slots=True)
class Head:
    """A group as the head of a column."""

    number: int
    label: str
    seen: str
    """Whether it was observed, as a sentence's end."""
    kind: str
    """``available``, or ``unknown``."""
    group: Group


def answer(visit: Visit) -> Answer:
    """Return the groups of one region now or at a chosen time."""
    wanted = visit.scoped
    moment = visit.moment("at") or visit.now
    regions = _regions(visit, wanted)
    number = visit.number("page", 1, LARGEST_PAGE)
    matrix = find_matrix(visit.connection, regions[0] if regions else "", moment, wanted, number)
    if number > matrix.pages:
        raise ConfigError(f"page: there is no page {number}; the last one is {matrix.pages}")
    newer, older = (_page_address(visit, matrix, number + step) for step in (-1, 1))
    lines = _lines(matrix, visit)
    shown = {
        "matrix": matrix,
        "others": regions[1:],
        "is_now": visit.moment("at") is None,
        "heads": _heads(matrix, visit),
        "platforms": _by_platform(lines),
        "line_count": len(lines),
        "nothing": _nothing(visit, matrix) if not lines else "",
        "newer": newer,
        "older": older,
    }
    following = {"next": address("matrix", ".json", **visit.here(page=number + 1))} if older else {}
    return Answer(partial(matrix_row, visit.connection, matrix), shown=shown, following=following)


def _regions(visit: Visit, wanted: Filter) -> list[str]:
    """Return the regions of which the first is shown."""
    is_one = len(wanted.region_ids) == 1 and not set("*?") & set(wanted.region_ids[0])
    return [wanted.region_ids[0]] if is_one else list_regions_of(visit.connection, wanted)


def _page_address(visit: Visit, matrix: Matrix, number: int) -> str:
    return address("matrix", **visit.here(page=number)) if 1 <= number <= matrix.pages else ""


def matrix_row(connection: Connection, matrix: Matrix) -> Row:
    """Return a page of the matrix as programs read it."""
    return {
        "region_id": matrix.region_id or None,
        "at": matrix.moment,
        "page": matrix.page,
        "pages": matrix.pages,
        "groups": [_group_row(connection, matrix.moment, group) for group in matrix.groups],
    }


def _group_row(connection: Connection, moment: datetime, group: Group) -> Row:
    begun = find_group_beginnings(connection, moment, group)
    return {
        "families": [family.name for family in group.families],
        "instance_types": list(group.instance_types),
        "base_os_tag_filter": group.base_os_tag,
        "state": group.state,
        "observed_at": group.observed_at,
        "next_observed_at": group.next_observed_at,
        "images": [
            {
                **_fields(image),
                "available_since": begun[image].available_since,
                "from_baseline": begun[image].from_baseline,
                "missing_since": missing_since,
            }
            for image, missing_since in group.images.items()
        ],
    }


def _fields(image: Image) -> dict[str, str]:
    return {name: getattr(image, name) for name in IMAGE_FIELDS}


def _heads(matrix: Matrix, visit: Visit) -> list[Head]:
    first = (matrix.page - 1) * GROUPS_SHOWN + 1
    return [
        Head(number, _label(group), seen_words(group, visit), AVAILABLE if _is_seen(group) else "unknown", group)
        for number, group in enumerate(matrix.groups, first)
    ]


def _label(group: Group) -> str:
    """Return the families of a group in short; of one that stands in several groups, how many of it stand here."""
    names = [
        family.name
        if len(family.instance_types) == family.type_count
        else f"{family.name} ({len(family.instance_types)} of {family.type_count})"
        for family in group.families
    ]
    return ", ".join(names[:2]) + (f" +{len(names) - 2}" if len(names) > 2 else "")


def _is_seen(group: Group) -> bool:
    return group.state == AVAILABLE


def seen_words(group: Group, visit: Visit) -> str:
    """Return when a group was observed."""
    before, last, after = (
        visit.show(time) for time in (group.observed_at, group.last_observed_at, group.next_observed_at)
    )
    if _is_seen(group):
        return f"observed {before}"
    if not before:
        return f"unknown until {after}" if after else "never observed"
    since = before if before == last else f"{before} to {last}"
    return f"unknown since {since}, " + (f"observed again by {after}" if after else "not observed again")


def _lines(matrix: Matrix, visit: Visit) -> list[Line]:
    """Return one line per OS of the page, sorted by platform and name."""
    of_groups = [_by_os(group) for group in matrix.groups]
    images: dict[str, Counter[Image]] = defaultdict(Counter)
    for group, by_os in zip(matrix.groups, of_groups, strict=True):
        for name, held in by_os.items():
            images[name].update({image: len(group.instance_types) for image, _ in held})
    empty = [_empty_cell(group) for group in matrix.groups]
    lines = []
    for name, counts in images.items():
        cells = [
            _cell(group, by_os[name], visit) if name in by_os else nothing
            for group, by_os, nothing in zip(matrix.groups, of_groups, empty, strict=True)
        ]
        lines.append(_line(name, counts, cells))
    return sorted(_told_apart(lines), key=lambda line: (line.platform.lower(), natural_order(line.name)))


def _by_os(group: Group) -> dict[str, list[tuple[Image, datetime | None]]]:
    found: dict[str, list[tuple[Image, datetime | None]]] = defaultdict(list)
    for image, missing_since in group.images.items():
        found[image.os_tag or image_name(_fields(image))].append((image, missing_since))
    return found


def _line(asked: str, counts: Counter[Image], cells: Sequence[Cell]) -> Line:
    """Return the line of an OS, named as most instance types name it."""
    main = min(counts, key=lambda image: (-counts[image], image))
    ids = sorted({image.image_id for image in counts if image.image_id})
    return Line(image_name(_fields(main)), asked, main.platform or "other", tuple(ids), _without_absent(cells))


def _without_absent(cells: Iterable[Cell]) -> tuple[tuple[int, Cell | None], ...]:
    """Return cells with the absent ones counted: most of a large matrix is empty."""
    found: list[tuple[int, Cell | None]] = []
    absent = 0
    for cell in cells:
        if cell.kind == "absent":
            absent += 1
        else:
            found.append((absent, cell))
            absent = 0
    return (*found, (absent, None)) if absent else tuple(found)


def _told_apart(lines: Iterable[Line]) -> list[Line]:
    """Return the lines; where two have the same name, their tags stand beside it."""
    lines = list(lines)
    names = Counter(line.name for line in lines)
    return [
        replace(line, name=f"{line.name} ({line.asked})") if names[line.name] > 1 and line.asked != line.name else line
        for line in lines
    ]


def _cell(group: Group, held: Held, visit: Visit) -> Cell:
    title = ", ".join(image.image_id or image.os_tag for image, _ in held)
    missing = [since for _, since in held if since]
    words = f"missing since {visit.show(min(missing))}, not believed yet" if missing else ""
    if not _is_seen(group):
        return Cell("unknown", "unknown, was available" + (f", {words}" if words else ""), title)
    return Cell("missing", words, title) if missing else Cell("available", "available", title)


def _empty_cell(group: Group) -> Cell:
    if _is_seen(group):
        return Cell("absent", "absent")
    return Cell("unseen", "never observed" if group.observed_at is None else "unknown, was absent")


def _by_platform(lines: Iterable[Line]) -> list[tuple[str, list[Line]]]:
    platforms: dict[str, list[Line]] = defaultdict(list)
    for line in lines:
        platforms[line.platform].append(line)
    return list(platforms.items())


def _nothing(visit: Visit, matrix: Matrix) -> str:
    """Return why a page has no lines."""
    first = find_first_observation(visit.connection)
    if first is None:
        return "Nothing has been observed yet."
    if matrix.moment < first:
        return f"Nothing was observed at that time; the first observation is of {visit.show(first)}."
    if not matrix.region_id or not matrix.group_count:
        return "Nothing is known of that: no instance type of this region that matches was there at that time."
    if all(not _is_seen(group) for group in matrix.groups):
        return f"Unknown: {counted(matrix.type_count, 'instance type')} not observed at that time, and no image before."
    return "No image matches: what was asked is known to have none at that time."


PAGE = Page("matrix", "Matrix", ("region", "at", "os_tag", "instance_type", "image", "page"), answer)
