"""The timeline: its bars are the rows of ``image_history``, in the data, in the picture and in the SQL beside it."""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import Any
from zoneinfo import ZoneInfo

import plotly.graph_objects as go
import pytest
from sqlalchemy import or_, select

from sync.errors import ConfigError
from sync.inventory import Change, ChangeKind, Image, TargetUpdate
from sync.store.database import Database
from sync.store.filters import Filter
from sync.store.schema import image_history
from sync.timeline import Bar, Timeline, find_timeline
from sync.web.figures import timeline_figure
from tests.cli.story import NOON, at
from tests.store.builders import NOON as STORE_NOON
from tests.store.builders import REGION, Writer, a_target, an_image, closing, failed, observed, writer_of
from tests.store.builders import at as minute
from tests.store.spans import begin_runs, rows_of_statement
from tests.web.stage import SHORTLY_AFTER, a_source, get, served

ALL = Filter()
HANGZHOU, BEIJING = Filter(region_ids=("cn-hangzhou",)), Filter(region_ids=("cn-beijing",))
BEFORE = at(-1)


@pytest.fixture
def url(history: Database) -> Iterator[str]:
    """The dashboard over the story, on each database."""
    with served(a_source(history)) as address:
        yield address


@pytest.fixture
def file_url(file_history: Database) -> Iterator[str]:
    """The dashboard over the story in a file."""
    with served(a_source(file_history)) as address:
        yield address


@pytest.fixture
def writer(database: Database) -> Iterator[Writer]:
    """An open run in a fresh history, on each database."""
    with writer_of(database) as opened:
        yield opened


def timeline_of(
    database: Database, wanted: Filter = ALL, since: datetime = BEFORE, until: datetime = SHORTLY_AFTER, **more: Any
) -> Timeline:
    with database.reading() as connection:
        return find_timeline(connection, wanted, since, until, **more)


def day_of(database: Database, wanted: Filter = ALL, **more: int) -> Timeline:
    """Return the timeline around the noon of the store's builders."""
    return timeline_of(database, wanted, minute(-720), minute(720), **more)


def told(bar: Bar) -> tuple[object, ...]:
    return (bar.image.image_id, bar.instance_types, bar.valid_from, bar.valid_to)


def unfolded(timeline: Timeline) -> list[tuple[object, ...]]:
    """Return the rows that a timeline's bars stand for."""
    return sorted(
        (
            (
                bar.region_id,
                span.instance_type,
                *told_image(bar.image),
                span.valid_from,
                span.valid_to or "",
                bar.from_baseline,
            )
            for bar in timeline.bars
            for span in bar.spans
        ),
        key=repr,
    )


def told_image(image: Image) -> tuple[str, ...]:
    return (
        image.image_id,
        image.os_tag,
        image.base_os_tag,
        image.platform,
        image.version,
        image.architecture,
        image.os_name,
        image.os_name_en,
    )


def rows_of_view(database: Database, since: datetime, until: datetime) -> list[tuple[object, ...]]:
    """Return the rows of ``image_history`` that overlap a period, as the view has them."""
    view = image_history.c
    query = select(image_history).where(view.valid_from < until, or_(view.valid_to.is_(None), view.valid_to > since))
    with database.reading() as connection:
        rows = connection.execute(query).all()
    return sorted(((*row[:11], row.valid_to or "", bool(row.from_baseline)) for row in rows), key=repr)


PERIODS = [(BEFORE, SHORTLY_AFTER), (at(0.5), at(1)), (at(1), at(1.5)), (at(2), SHORTLY_AFTER), (at(0), at(0.25))]


@pytest.mark.parametrize(("since", "until"), PERIODS)
def test_the_bars_are_the_rows_of_the_view(history: Database, since: datetime, until: datetime) -> None:
    expected = rows_of_view(history, since, until)
    assert expected
    assert unfolded(timeline_of(history, ALL, since, until)) == expected


def test_types_whose_image_came_and_went_in_the_same_runs_are_one_bar(history: Database) -> None:
    bars = [told(bar) for bar in timeline_of(history, HANGZHOU).bars if bar.image.image_id != "m-ubuntu"]
    both = ("ecs.c7.large", "ecs.c7.xlarge")
    assert bars == [
        ("m-centos", both, NOON, at(2)),
        ("m-rocky", both, at(1), None),
        ("m-rocky", ("ecs.hpc8.large",), at(2), None),
    ]


def test_bars_that_overlap_stand_on_levels_of_their_own(history: Database) -> None:
    rocky = next(lane for lane in timeline_of(history, HANGZHOU).lanes if lane.image.image_id == "m-rocky")
    assert [(bar.instance_types[0], bar.level) for bar in rocky.bars] == [("ecs.c7.large", 0), ("ecs.hpc8.large", 1)]
    assert rocky.levels == 2


def test_bars_that_follow_each_other_share_a_level(database: Database, writer: Writer) -> None:
    entry = an_image()
    writer.write(observed(a_target(), [entry]))
    writer.write(closing(a_target(), [entry], minute(200), stored=[entry]))
    writer.write(observed(a_target(), [entry], minute(400)))
    assert [(bar.valid_from, bar.valid_to, bar.level) for bar in day_of(database).bars] == [
        (STORE_NOON, minute(200), 0),
        (minute(400), None, 0),
    ]


def test_only_what_the_first_observation_found_is_at_least_since(history: Database) -> None:
    bars = timeline_of(history, Filter(images=("m-ubuntu",))).bars
    assert {(bar.image.os_name, bar.instance_types, bar.from_baseline) for bar in bars} == {
        ("Ubuntu 22.04 64位", ("ecs.c7.large", "ecs.c7.xlarge"), True),
        ("Ubuntu 22.04 64位", ("ecs.g7.large",), True),
        ("Ubuntu LTS", ("ecs.g7.large",), False),
    }


def test_an_image_of_a_target_that_no_longer_answers_is_unknown_since_its_last_answer(history: Database) -> None:
    timeline = timeline_of(history, BEIJING)
    assert [(told(bar), bar.unknown) for bar in timeline.bars] == [
        (("m-centos", ("ecs.c7.large",), NOON, None), ((at(2), None),))
    ]
    assert [(gap.instance_types, gap.gap_from, gap.gap_to) for gap in timeline.gaps] == [
        (("ecs.c7.large",), at(2), None)
    ]
    assert timeline.observed_until == {"cn-beijing": at(3)}


def test_a_retired_type_is_gone_and_not_unknown(history: Database) -> None:
    timeline = timeline_of(history, Filter(instance_types=("ecs.g7.large",)))
    assert {bar.valid_to for bar in timeline.bars} == {at(1), at(2)}
    assert timeline.gaps == ()
    assert all(not bar.unknown for bar in timeline.bars)


def test_a_gap_ends_where_its_type_was_known_to_be_gone(database: Database, writer: Writer) -> None:
    writer.write(observed(a_target(), [an_image()]))
    writer.write(failed(a_target(), minute(10)))
    retired = Change(ChangeKind.TYPE_RETIRED, minute(30), STORE_NOON)
    writer.write(
        TargetUpdate(
            a_target(),
            minute(90),
            closed={an_image(): minute(30)},
            changes=(retired,),
            retired_at=minute(30),
            image_digest="",
        )
    )
    timeline = day_of(database)
    assert [(gap.gap_from, gap.gap_to) for gap in timeline.gaps] == [(STORE_NOON, minute(30))]
    assert [bar.unknown for bar in timeline.bars] == [((STORE_NOON, minute(30)),)]


def test_a_bar_is_unknown_only_while_none_of_its_types_was_observed(database: Database, writer: Writer) -> None:
    entry, (one, two) = an_image(), (a_target("ecs.a1.large"), a_target("ecs.a2.large"))
    writer.write(observed(one, [entry]), observed(two, [entry]))
    writer.write(failed(one, minute(100)), observed(two, [], minute(150), stored=[entry]))
    writer.write(failed(two, minute(200)))
    writer.write(observed(one, [], minute(300), stored=[entry]), observed(two, [], minute(400), stored=[entry]))
    (bar,) = day_of(database).bars
    assert bar.instance_types == ("ecs.a1.large", "ecs.a2.large")
    assert bar.unknown == ((minute(150), minute(300)),)


def test_times_of_two_runs_are_two_bars_however_close(database: Database, writer: Writer) -> None:
    entry, (one, two, three) = an_image(), (a_target(f"ecs.a{number}.large") for number in (1, 2, 3))
    begin_runs(database, writer.run_id, {REGION: [0.5]})
    writer.write(
        observed(one, [entry], minute(0.2)), observed(two, [entry], minute(0.4)), observed(three, [entry], minute(0.6))
    )
    assert [(bar.instance_types, bar.valid_from) for bar in day_of(database).bars] == [
        (("ecs.a1.large", "ecs.a2.large"), minute(0.2)),
        (("ecs.a3.large",), minute(0.6)),
    ]


def test_pages_have_all_bars_once_and_keep_images_of_one_id_together(database: Database, writer: Writer) -> None:
    images = [an_image(f"m-{number}", platform="P") for number in range(7)]
    renamed = an_image("m-2", platform="P", os_name="another")
    writer.write(observed(a_target(), [*images, renamed]))
    pages = [day_of(database, page=number, lanes=3) for number in (1, 2, 3)]
    assert [[lane.image.image_id for lane in page.lanes] for page in pages] == [
        ["m-0", "m-1"],
        ["m-2", "m-2", "m-3"],
        ["m-4", "m-5", "m-6"],
    ]
    assert {page.pages for page in pages} == {3}
    with pytest.raises(ConfigError, match="page 4 is beyond the last; there are 3"):
        day_of(database, page=4, lanes=3)


def test_regions_have_lanes_beside_each_other(history: Database) -> None:
    lanes = timeline_of(history, Filter(images=("m-centos",))).lanes
    assert [(lane.region_id, lane.image.image_id) for lane in lanes] == [
        ("cn-beijing", "m-centos"),
        ("cn-hangzhou", "m-centos"),
    ]


def test_the_twin_has_the_words_of_the_view(url: str) -> None:
    data = get(url, "/timeline.json?region=cn-beijing").json()
    assert data["bars"] == [
        {
            "region_id": "cn-beijing",
            "instance_types": ["ecs.c7.large"],
            "image_id": "m-centos",
            "os_tag": "CentOS_7.6_64",
            "base_os_tag": "CentOS_7.6_64",
            "platform": "CentOS",
            "version": "7.6",
            "architecture": "x86_64",
            "os_name": "CentOS  7.6 64位".replace("  ", " "),
            "os_name_en": "CentOS 7.6 64 bit",
            "valid_from": "2024-03-01T12:00:00.000Z",
            "valid_to": None,
            "from_baseline": True,
            "base_os_tag_filter": "",
            "unknown": [{"gap_from": "2024-03-01T14:00:00.000Z", "gap_to": None}],
        }
    ]
    assert data["observed_until"] == [{"region_id": "cn-beijing", "observed_until": "2024-03-01T15:00:00.000Z"}]
    assert (data["since"], data["until"]) == ("2024-03-01T12:00:00.000Z", "2024-03-01T15:15:00.000Z")
    assert [(gap["instance_types"], gap["gap_from"]) for gap in data["gaps"]] == [
        (["ecs.c7.large"], "2024-03-01T14:00:00.000Z")
    ]
    assert (data["page"], data["pages"]) == (1, 1)


def test_without_a_place_one_region_is_shown_and_with_an_asterisk_all(file_url: str) -> None:
    shown = {bar["region_id"] for bar in get(file_url, "/timeline.json").json()["bars"]}
    everywhere = {bar["region_id"] for bar in get(file_url, "/timeline.json?region=*").json()["bars"]}
    assert (shown, everywhere) == ({"cn-beijing"}, {"cn-beijing", "cn-hangzhou"})


@pytest.mark.parametrize(
    ("address", "sentence"),
    [
        (
            "?since=2024-03-01T14:00&until=2024-03-01T13:00",
            "until (2024-03-01 13:00) is not after since (2024-03-01 14:00)",
        ),
        ("?since=2024-03-01T14:00&until=2024-03-01T14:00", "exchange them"),
        ("?until=2030-01-01", "in the future"),
        ("?since=soon", "since: 'soon' is not a time"),
        ("?region=cn-hangzhu", "the nearest are cn-hangzhou"),
        ("?image=m-cento", "the nearest are m-centos"),
        ("?page=2", "page 2 is beyond the last; there is only one"),
        ("?page=0", "page: '0' is not a number"),
    ],
)
def test_bad_input_is_one_sentence(file_url: str, address: str, sentence: str) -> None:
    for suffix in (".json", ".sql"):
        answer = get(file_url, f"/timeline{suffix}{address}")
        assert answer.status_code == 400
        assert sentence in answer.json()["error"]
    assert get(file_url, f"/timeline{address}").status_code == 400


def test_a_period_without_images_says_so_and_has_no_picture(file_url: str) -> None:
    page = get(file_url, "/timeline?since=2024-02-01&until=2024-02-02").text
    assert "Nothing was observed in this period; the first observation is of 2024-03-01 12:00." in page
    assert '<figure class="chart"' not in page


def test_an_empty_history_says_so(database: Database, writer: Writer) -> None:
    del writer
    with served(a_source(database)) as address:
        assert "Nothing has been observed yet." in get(address, "/timeline").text


# The statement beside the picture.


def statement_of(url: str, address: str) -> str:
    answer = get(url, f"/timeline.sql{address}")
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    return answer.text


def names_of(rows: list[dict[str, object]]) -> list[tuple[object, ...]]:
    return sorted((row["region_id"], row["instance_type"], row["image_id"], row["os_name_en"]) for row in rows)


def names_of_bars(url: str, address: str) -> list[tuple[object, ...]]:
    bars = get(url, f"/timeline.json{address}").json()["bars"]
    return sorted(
        (bar["region_id"], name, bar["image_id"], bar["os_name_en"]) for bar in bars for name in bar["instance_types"]
    )


@pytest.mark.parametrize(
    "address",
    [
        "?region=*",
        "?region=cn-hangzhou",
        "?region=cn-*&os_tag=centos*",
        "?instance_type=ECS.c7.*&image=m-ubuntu&image=CentOS 7.6 64 bit",
        "?image=Ubuntu LTS",
        "?region=cn-hangzhou&since=2024-03-01T14:00",
        "?region=cn-hangzhou&until=2024-03-01T13:00",
    ],
)
def test_the_statement_gives_the_rows_of_the_bars(history: Database, url: str, address: str) -> None:
    expected = names_of_bars(url, address)
    assert expected
    assert names_of(rows_of_statement(history, statement_of(url, address))) == expected


HOSTILE = (
    "<script>alert(1)</script>",
    '<b onclick="alert(1)">bold</b>',
    "O'Brien's \"image\" & <a href='http://x'>y</a><br>z",
)


@pytest.mark.parametrize("asked", ["since=0001-01-01", "until=0001-01-01", "since=0001-01-03&until=0001-01-05"])
def test_a_picture_of_long_ago_is_refused(file_url: str, asked: str) -> None:
    answer = get(file_url, f"/timeline?{asked}")
    assert answer.status_code == 400
    assert "must not be before 1970" in answer.text


@pytest.fixture
def hostile_url(database: Database, writer: Writer) -> Iterator[str]:
    """The dashboard over images that are named to do harm, on each database."""
    images = [an_image(f"m-{number}'", platform="P", os_name_en=name) for number, name in enumerate(HOSTILE)]
    writer.write(observed(a_target("ecs.o'brien.large"), images), observed(a_target("<i>x</i>"), images[:1]))
    with served(a_source(database, now=lambda: minute(60))) as address:
        yield address


def test_the_statement_quotes_names(database: Database, hostile_url: str) -> None:
    address = "?instance_type=ecs.o'brien.large"
    rows = rows_of_statement(database, statement_of(hostile_url, address))
    assert {row["os_name_en"] for row in rows} == set(HOSTILE)
    assert names_of(rows) == names_of_bars(hostile_url, address)


class Elements(HTMLParser):
    """The elements of a page, and the text of its figure."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.figure = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        """Note the figure."""
        if self.found and self.found[-1][1].get("class") == "figure":
            self.figure += data


def elements_of(page: str) -> Elements:
    elements = Elements()
    elements.feed(page)
    return elements


def figure_of(page: str) -> dict[str, Any]:
    figure: dict[str, Any] = json.loads(elements_of(page).figure.rpartition("}")[0] + "}")
    return figure


def test_hostile_names_are_shown_and_not_obeyed(hostile_url: str) -> None:
    elements = elements_of(get(hostile_url, "/timeline").text)
    assert all(
        attrs.get("src") or attrs.get("type") == "application/json" for tag, attrs in elements.found if tag == "script"
    )
    assert not {name for _, attrs in elements.found for name in attrs if name.startswith("on") or name == "style"}
    assert not [tag for tag, _ in elements.found if tag in {"b", "i"}]
    assert not [attrs for tag, attrs in elements.found if tag == "a" and str(attrs["href"]).startswith("http")]


def texts_of(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for entry in value.values():
            yield from texts_of(entry)
    elif isinstance(value, list):
        for entry in value:
            yield from texts_of(entry)
    elif isinstance(value, str):
        yield value


def test_the_picture_has_no_tags_but_its_own_line_breaks(hostile_url: str) -> None:
    texts = list(texts_of(figure_of(get(hostile_url, "/timeline").text)))
    assert {tag for text in texts for tag in re.findall(r"<[^>]*>", text)} == {"<br>"}
    assert any("&lt;script&gt;alert(1)&lt;/script&gt;" in text for text in texts)
    assert any("&lt;i&gt;x&lt;/i&gt;" in text for text in texts)


# The picture.


def drawn(
    history: Database, wanted: Filter = ALL, zone: str = "UTC", **period: datetime
) -> tuple[Timeline, dict[str, Any]]:
    timeline = timeline_of(history, wanted, **period)
    return timeline, timeline_figure(timeline, ZoneInfo(zone))


def trace(figure: Mapping[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(entry for entry in figure["data"] if entry["name"] == name)
    return found


def spans_of(bars: Mapping[str, Any]) -> list[tuple[datetime, datetime]]:
    begins = [datetime.fromisoformat(base).replace(tzinfo=UTC) for base in bars["base"]]
    return [(begin, begin + timedelta(milliseconds=length)) for begin, length in zip(begins, bars["x"], strict=True)]


def test_the_picture_has_every_bar_from_begin_to_end(file_history: Database) -> None:
    timeline, figure = drawn(file_history)
    last_run = at(3)
    ends = [timeline.until if is_unknown_now(bar) else bar.valid_to or last_run for bar in timeline.bars]
    begins = [bar.valid_from for bar in timeline.bars]
    assert spans_of(trace(figure, "available")) == list(zip(begins, ends, strict=True))


def is_unknown_now(bar: Bar) -> bool:
    return bool(bar.unknown) and bar.unknown[-1][1] is None


def test_the_picture_hatches_what_was_not_observed(file_history: Database) -> None:
    timeline, figure = drawn(file_history, BEIJING)
    hatched = trace(figure, "not observed")
    # To the end of the picture: a region that nobody asks any more has no later observation, and is not absent.
    assert spans_of(hatched) == [(at(2), timeline.until), (at(2), timeline.until)]
    assert hatched["marker"]["pattern"]["shape"] == "/"
    assert hatched["y"][1] == trace(figure, "available")["y"][0]
    assert len(timeline.gaps) == 1


def test_the_picture_marks_what_may_be_older(file_history: Database) -> None:
    _, figure = drawn(file_history, Filter(images=("m-ubuntu",)))
    marked = trace(figure, "at least since")
    assert marked["marker"]["symbol"] == "triangle-left"
    assert marked["x"] == ["2024-03-01 12:00:00.000"] * 2
    assert all("at least since 2024-03-01 12:00" in text for text in marked["hovertext"])


def test_no_bar_is_drawn_over_another(file_history: Database) -> None:
    _, figure = drawn(file_history)
    bars = trace(figure, "available")
    boxes = sorted(
        (middle - width / 2, middle + width / 2, *span)
        for middle, width, span in zip(bars["y"], bars["width"], spans_of(bars), strict=True)
    )
    overlaps = [
        (one, other)
        for number, one in enumerate(boxes)
        for other in boxes[number + 1 :]
        if other[0] < one[1] and other[2] < one[3] and one[2] < other[3]
    ]
    assert overlaps == []


def test_the_picture_is_one_that_plotly_accepts(file_history: Database) -> None:
    _, figure = drawn(file_history)
    go.Figure(json.loads(re.sub(r'"--[a-z-]+"', '"#123456"', json.dumps(figure))))


def test_the_picture_speaks_of_an_image_in_words(file_history: Database) -> None:
    _, figure = drawn(file_history, Filter(region_ids=("cn-hangzhou",), images=("m-rocky",)))
    bars = trace(figure, "available")
    assert bars["hovertext"][0].split("<br>") == [
        "Rocky Linux 9.3 64 bit",
        "m-rocky",
        "cn-hangzhou",
        "from 2024-03-01 13:00",
        "still available, observed until 2024-03-01 15:00",
        "2 types: ecs.c7.large, ecs.c7.xlarge",
    ]
    assert bars["text"] == ["2 types", ""]


def test_the_picture_is_in_the_configured_zone(file_history: Database) -> None:
    _, figure = drawn(file_history, BEIJING, zone="Asia/Shanghai")
    assert trace(figure, "available")["base"] == ["2024-03-01 20:00:00.000"]
    assert "at least since 2024-03-01 20:00" in trace(figure, "available")["hovertext"][0]


def test_several_regions_stand_before_the_names_of_their_lanes(file_history: Database) -> None:
    _, figure = drawn(file_history, Filter(images=("m-centos",)))
    labels = [label["text"] for label in figure["layout"]["annotations"]]
    assert labels == ["not observed", "cn-beijing  CentOS 7.6 64 bit", "cn-hangzhou  CentOS 7.6 64 bit"]


def test_the_height_grows_with_the_lanes(file_history: Database) -> None:
    one, all_images = (
        drawn(file_history, wanted)[1]["layout"]["height"] for wanted in (Filter(images=("m-rocky",)), ALL)
    )
    assert one < all_images


def test_the_axis_shows_the_period_up_to_the_last_observation(file_history: Database) -> None:
    _, figure = drawn(
        file_history, Filter(region_ids=("cn-hangzhou",), images=("m-rocky",)), since=at(2), until=at(3.25)
    )
    first, last = (datetime.fromisoformat(moment).replace(tzinfo=UTC) for moment in figure["layout"]["xaxis"]["range"])
    assert at(1.9) < first < at(2)
    assert at(3) < last < at(3.1)
    # The bar is drawn from its true begin, which is before.
    assert spans_of(trace(figure, "available"))[0][0] == at(1)


def test_the_page_has_the_picture_and_its_rows_as_a_table(file_url: str) -> None:
    page = get(file_url, "/timeline?region=cn-hangzhou").text
    assert len(trace(figure_of(page), "available")["y"]) == len(
        get(file_url, "/timeline.json?region=cn-hangzhou").json()["bars"]
    )
    assert "When images were available in cn-hangzhou" in page
    assert "ecs.c7.large, ecs.c7.xlarge" in page
    assert "at least since <time" in page


def test_images_that_differ_only_in_a_field_say_which(file_history: Database) -> None:
    _, figure = drawn(file_history, Filter(os_tags=("Ubuntu_22.04_64",)))
    assert {label["text"] for label in figure["layout"]["annotations"]} == {
        "Ubuntu 22.04 64 bit (m-ubuntu) [Ubuntu 22.04 64位]",
        "Ubuntu 22.04 64 bit (m-ubuntu) [Ubuntu LTS]",
    }
