"""Pictures: texts are shown as they are, and lengths are lengths, whatever the clock does."""

from datetime import UTC, datetime
from html import unescape
from zoneinfo import ZoneInfo

from hypothesis import given
from hypothesis import strategies as st

from sync.timeline import Bar, Gap, Lane, Span, Timeline
from sync.web.figures import literal, timeline_figure
from tests.cli.story import an_image

IMAGE = an_image("m-1", "Debian", "13")


@given(st.text(st.sampled_from("$<>&b/;#36 x")))
def test_nothing_in_a_name_is_markup_or_a_formula(text: str) -> None:
    told = literal(text)
    assert not set(told) & set("<>$")
    assert unescape(told) == text


def test_what_ends_while_clocks_are_set_back_has_no_negative_length() -> None:
    before = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30 in Berlin, and half an hour later it is 02:00 again
    after = datetime(2026, 10, 25, 1, 15, tzinfo=UTC)
    bar = Bar("r", IMAGE, "", from_baseline=False, spans=(Span("t", before, after),), unknown=())
    gap = Gap("r", ("t",), before, after, "code", "")
    lane = Lane("r", IMAGE, (bar,))
    day = (datetime(2026, 10, 24, tzinfo=UTC), datetime(2026, 10, 26, tzinfo=UTC))
    timeline = Timeline(*day, (lane,), (gap,), {"r": day[1]}, page=1, pages=1, images=1)
    figure = timeline_figure(timeline, ZoneInfo("Europe/Berlin"))
    lengths = [length for trace in figure["data"] if trace["type"] == "bar" for length in trace["x"]]
    assert len(lengths) >= 2
    assert min(lengths) == 0
