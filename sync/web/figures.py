"""Timelines → figures of plotly as plain dictionaries, whose colours are names of the style sheet's variables. Pure."""

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from sync.inventory import IMAGE_FIELDS, Image
from sync.moments import format_moment
from sync.render import counted, distinct_names, identity_of, named
from sync.timeline import Bar, Gap, Lane, Timeline

Figure = dict[str, Any]
Shown = tuple[datetime, datetime]
"""From when to when, in the picture."""

LABEL_PX, LANE_GAP_PX, TOP_PX, BOTTOM_PX = 18, 8, 36, 10
ROW_PX = {1: 18, **dict.fromkeys(range(2, 7), 14)}  # by how many bars lie over each other in a lane
THIN_ROW_PX = 9  # where there are more; too thin for text
FONT = "system-ui, -apple-system, 'Segoe UI', 'Helvetica Neue', 'DejaVu Sans', sans-serif"
TEXT_SHARE = 0.16  # of the width: what "25 types" takes on a small screen
LABEL_LENGTH = 80  # characters; what does not fit on a small screen is cut by the picture's edge


def timeline_figure(timeline: Timeline, zone: ZoneInfo) -> Figure:
    """Return the picture of a timeline: a lane per image and region under its name, times in ``zone``.

    Its traces are called ``available``, ``not observed`` and ``at least since``; its height in pixels is that of the
    layout, and grows with the lanes.
    """
    plan = _Plan(timeline)
    bars = [(bar, plan.place_of[lane.region_id, lane.image]) for lane in timeline.lanes for bar in lane.bars]
    drawn = _Drawn(timeline, zone)
    shown = _shown_period(timeline, drawn)
    return {
        "data": [
            _available(bars, drawn, shown),
            _unobserved(timeline.gaps, plan, bars, drawn),
            _at_least_since(bars, drawn),
            _counts_at_the_edge(bars, drawn, shown),
        ],
        "layout": _layout(plan, drawn, shown),
    }


class _Plan:
    """Where each lane stands, in pixels from the top."""

    def __init__(self, timeline: Timeline) -> None:
        self.place_of: dict[tuple[str, Image] | None, tuple[float, int]] = {}
        self.labels: list[tuple[float, Lane | None]] = []
        self.height = 0
        gap_levels = max((gap.level for gap in timeline.gaps), default=-1) + 1
        if gap_levels:
            self._add(None, None, gap_levels)
        for lane in timeline.lanes:
            self._add((lane.region_id, lane.image), lane, lane.levels)

    def _add(self, key: tuple[str, Image] | None, lane: Lane | None, levels: int) -> None:
        thickness = ROW_PX.get(levels, THIN_ROW_PX)
        self.labels.append((self.height + LABEL_PX / 2, lane))
        self.place_of[key] = self.height + LABEL_PX, thickness
        self.height += LABEL_PX + levels * thickness + LANE_GAP_PX


class _Drawn:
    """How times and names are put into the picture."""

    def __init__(self, timeline: Timeline, zone: ZoneInfo) -> None:
        self._observed_until = timeline.observed_until
        self._until = timeline.until
        self.zone = zone
        self.has_regions = len({lane.region_id for lane in timeline.lanes}) > 1
        self.names = image_names({lane.image for lane in timeline.lanes})

    def name_of(self, image: Image) -> str:
        """Return what people call an image."""
        return self.names[image]

    def show(self, moment: datetime) -> str:
        """Return a time as people read it."""
        return format_moment(moment, self.zone)

    def local(self, moment: datetime) -> str:
        """Return a time as plotly takes it, which knows no zones."""
        return self._naive(moment).isoformat(sep=" ", timespec="milliseconds")

    def length(self, begin: datetime, end: datetime) -> int:
        """Return the milliseconds between two times on the local clock."""
        # When clocks are set back the later time may be the earlier on the clock.
        return max(0, round((self._naive(end) - self._naive(begin)) / timedelta(milliseconds=1)))

    def end_of(self, bar: Bar) -> datetime:
        """Return where a bar ends: what lasts reaches to the region's last observation, what is unknown to the end."""
        if bar.unknown and bar.unknown[-1][1] is None:
            return self.end_unknown(bar.valid_from, bar.valid_to)
        return bar.valid_to or self.observed_until(bar)

    def end_unknown(self, begin: datetime, end: datetime | None) -> datetime:
        """Return where a gap ends: an open one at the picture's end, or the time after it would look like absence."""
        return end or max(begin, self._until)

    def observed_until(self, bar: Bar) -> datetime:
        """Return the last observation of a bar's region."""
        return max(bar.valid_from, self._observed_until.get(bar.region_id, bar.valid_from))

    def _naive(self, moment: datetime) -> datetime:
        return moment.astimezone(self.zone).replace(tzinfo=None)


def image_names(images: Collection[Image]) -> dict[Image, str]:
    """Return what to call each image, so that no two have the same name."""
    identities = {entry: identity_of({name: getattr(entry, name) for name in IMAGE_FIELDS}) for entry in images}
    told = distinct_names(set(identities.values()))
    return {entry: told[identity] for entry, identity in identities.items()}


Placed = Sequence[tuple[Bar, tuple[float, int]]]


def _available(bars: Placed, drawn: _Drawn, shown: Shown) -> Figure:
    spans = [(bar.valid_from, drawn.end_of(bar)) for bar, _ in bars]
    return {
        **_bars("available", spans, [_row_of(bar.level, place) for bar, place in bars], drawn),
        "hovertext": [_told_bar(bar, drawn) for bar, _ in bars],
        "text": [
            _count_of(bar, place) if _is_wide(span, shown) else ""
            for (bar, place), span in zip(bars, spans, strict=True)
        ],
        "textposition": "inside",
        "insidetextanchor": "start",
        "textangle": 0,
        "constraintext": "none",
        "textfont": {"color": "--bar-text", "size": 10},
        # A bar that is shorter than a pixel has to be seen too.
        "marker": {"color": "--bar", "line": {"color": "--bar", "width": [_edge(span, shown) for span in spans]}},
    }


def _count_of(bar: Bar, place: tuple[float, int]) -> str:
    """Return the number of types of a bar; none where it is one, or where there is no room."""
    if len(bar.spans) == 1 or place[1] == THIN_ROW_PX:
        return ""
    # The marker covers the first letter.
    return ("\u2002" if bar.from_baseline else "") + counted(len(bar.spans), "type")


def _is_wide(span: Shown, shown: Shown) -> bool:
    """Return whether a bar begins in the picture and has room for a few letters."""
    return span[0] >= shown[0] and _share(span, shown) > TEXT_SHARE


def _edge(span: Shown, shown: Shown) -> int:
    return 2 if _share(span, shown) < 1 / 500 else 0


def _share(span: Shown, shown: Shown) -> float:
    """Return how much of the picture's width a span takes."""
    return (min(span[1], shown[1]) - max(span[0], shown[0])) / (shown[1] - shown[0])


def _counts_at_the_edge(bars: Placed, drawn: _Drawn, shown: Shown) -> Figure:
    """Return the numbers of types on bars that begin before the picture, where their own text is out of sight."""
    texts = []
    for bar, place in bars:
        span = bar.valid_from, drawn.end_of(bar)
        if span[0] < shown[0] and _share(span, shown) > TEXT_SHARE:
            texts.append((_count_of(bar, place), _row_of(bar.level, place)[0]))
    return {
        "type": "scatter",
        "mode": "text",
        "name": "instance types",
        "x": [drawn.local(shown[0])] * len(texts),
        "y": [middle for _, middle in texts],
        "text": [text for text, _ in texts],
        "textposition": "middle right",
        "textfont": {"color": "--bar-text", "size": 10},
        "hoverinfo": "skip",
    }


def _unobserved(gaps: Iterable[Gap], plan: _Plan, bars: Placed, drawn: _Drawn) -> Figure:
    spans, rows, texts = [], [], []
    for gap in gaps:
        spans.append((gap.gap_from, drawn.end_unknown(gap.gap_from, gap.gap_to)))
        rows.append(_row_of(gap.level, plan.place_of[None]))
        texts.append(_told_gap(gap, drawn))
    for bar, place in bars:
        for begin, end in bar.unknown:
            spans.append((begin, drawn.end_unknown(begin, end)))
            rows.append(_row_of(bar.level, place))
            texts.append(_told_unknown(bar, (begin, end), drawn))
    pattern = {
        "shape": "/",
        "fgcolor": "--text",
        "bgcolor": "--unknown",
        "fillmode": "overlay",
        "size": 6,
        "solidity": 0.25,
    }
    return {
        **_bars("not observed", spans, rows, drawn),
        "hovertext": texts,
        "marker": {"color": "--unknown", "pattern": pattern},
    }


def _bars(
    name: str, spans: Sequence[tuple[datetime, datetime]], rows: Sequence[tuple[float, int]], drawn: _Drawn
) -> Figure:
    return {
        "type": "bar",
        "orientation": "h",
        "name": name,
        "base": [drawn.local(begin) for begin, _ in spans],
        "x": [drawn.length(begin, end) for begin, end in spans],
        "y": [middle for middle, _ in rows],
        "width": [thickness for _, thickness in rows],
        "hoverinfo": "text",
    }


def _row_of(level: int, place: tuple[float, int]) -> tuple[float, int]:
    """Return the middle and the thickness of a bar; two pixels stay free below it."""
    top, thickness = place
    return top + level * thickness + (thickness - 2) / 2, thickness - 2


def _at_least_since(bars: Placed, drawn: _Drawn) -> Figure:
    marked = [(bar, _row_of(bar.level, place)[0]) for bar, place in bars if bar.from_baseline]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "at least since",
        "x": [drawn.local(bar.valid_from) for bar, _ in marked],
        "y": [middle for _, middle in marked],
        "hovertext": [_told_bar(bar, drawn) for bar, _ in marked],
        "hoverinfo": "text",
        "marker": {"symbol": "triangle-left", "size": 9, "color": "--baseline"},
    }


def _layout(plan: _Plan, drawn: _Drawn, shown: Shown) -> Figure:
    return {
        "height": plan.height + TOP_PX + BOTTOM_PX,
        "margin": {"l": 12, "r": 12, "t": TOP_PX, "b": BOTTOM_PX},
        "showlegend": False,
        "barmode": "overlay",
        "bargap": 0,
        "dragmode": "zoom",
        "hovermode": "closest",
        "paper_bgcolor": "--ground",
        "plot_bgcolor": "--ground",
        "font": {"color": "--text", "size": 12, "family": FONT},
        "hoverlabel": {"align": "left", "bgcolor": "--raised", "bordercolor": "--line", "font": {"color": "--text"}},
        "xaxis": {
            "type": "date",
            "side": "top",
            "range": [drawn.local(moment) for moment in shown],
            "gridcolor": "--line",
            "tickfont": {"color": "--quiet"},
            "nticks": 8,
        },
        "yaxis": {"visible": False, "fixedrange": True, "range": [plan.height, 0]},
        "annotations": [_label(place, lane, drawn) for place, lane in plan.labels],
    }


def _shown_period(timeline: Timeline, drawn: _Drawn) -> Shown:
    """Return what the axis shows: the period, without what comes after the last observation, and a little beside it."""
    ends = [drawn.end_of(bar) for bar in timeline.bars]
    ends += [drawn.end_unknown(gap.gap_from, gap.gap_to) for gap in timeline.gaps]
    until = min(timeline.until, max(ends, default=timeline.until))
    margin = max(until - timeline.since, timedelta(seconds=1)) / 100
    return timeline.since - margin, until + margin


def _label(place: float, lane: Lane | None, drawn: _Drawn) -> Figure:
    name = "not observed"
    if lane is not None:
        name = drawn.name_of(lane.image)
        name = f"{lane.region_id}  {name}" if drawn.has_regions else name
    # Cut in the middle: ids of builds differ at their end.
    half = LABEL_LENGTH // 2
    short = name if len(name) <= LABEL_LENGTH else f"{name[:half]}…{name[1 - half :]}"
    full = {"hovertext": literal(name)} if short != name else {}
    return {
        "xref": "paper",
        "x": 0,
        "xanchor": "left",
        "y": place,
        "yanchor": "middle",
        "showarrow": False,
        "text": literal(short),
        "bgcolor": "--ground",
        "borderpad": 1,
        "font": {"color": "--text" if lane is not None else "--quiet", "size": 12},
        **full,
    }


def literal(text: str) -> str:
    """Return a text that plotly shows as it is: it would read tags, entities and, between dollars, formulas in it."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("$", "&#36;")


def _lines(texts: Iterable[str]) -> str:
    return "<br>".join(literal(text) for text in texts if text)


def _told_bar(bar: Bar, drawn: _Drawn) -> str:
    began = f"{'at least since' if bar.from_baseline else 'from'} {drawn.show(bar.valid_from)}"
    return _lines(
        (
            drawn.name_of(bar.image),
            bar.image.image_id,
            f"{bar.region_id} {bar.base_os_tag_filter}".strip(),
            began,
            _told_end(bar, drawn),
            _told_types(bar.instance_types),
        )
    )


def _told_end(bar: Bar, drawn: _Drawn) -> str:
    if bar.valid_to:
        return f"to {drawn.show(bar.valid_to)}"
    if bar.unknown and bar.unknown[-1][1] is None:
        return f"unknown since {drawn.show(bar.unknown[-1][0])}"
    return f"still available, observed until {drawn.show(drawn.observed_until(bar))}"


def _told_unknown(bar: Bar, unknown: tuple[datetime, datetime | None], drawn: _Drawn) -> str:
    return _lines(
        ("not observed: unknown, which is not absent", _period(*unknown, drawn), *_told_bar(bar, drawn).split("<br>"))
    )


def _told_gap(gap: Gap, drawn: _Drawn) -> str:
    place = f"{gap.region_id} {gap.base_os_tag_filter}".strip()
    return _lines(
        (
            f"not observed: {gap.error_code}",
            place,
            _period(gap.gap_from, gap.gap_to, drawn),
            _told_types(gap.instance_types),
        )
    )


def _period(begin: datetime, end: datetime | None, drawn: _Drawn) -> str:
    return f"from {drawn.show(begin)} to {drawn.show(end)}" if end else f"since {drawn.show(begin)}"


def _told_types(names: Sequence[str]) -> str:
    return (
        names[0]
        if len(names) == 1
        else named(names)
        if len(names) > 4
        else f"{counted(len(names), 'type')}: {named(names)}"
    )
