"""Channels and the dead man's switch, over real HTTP."""

import logging
from logging.handlers import BufferingHandler

import pytest

from sync.errors import ConfigError
from sync.notify.channels import Channel, ChannelError, open_channels
from sync.notify.message import Message, Templates
from sync.notify.ping import DeadMansSwitch, Signal
from tests.alerts.receiver import Receiver

TEXT = Templates().text_of(Message(changes=("CentOS_7.6_64 removed",), runs="1"))


def test_a_message_arrives_with_title_text_and_severity(receiver: Receiver) -> None:
    Channel(receiver.channel).send(TEXT)
    (message,) = receiver.messages
    assert (message["title"], message["message"], message["type"]) == (TEXT.title, TEXT.plain, "info")


def test_a_channel_that_wants_markdown_gets_it(receiver: Receiver) -> None:
    Channel(receiver.channel + "?format=markdown").send(TEXT)
    assert receiver.messages[0]["message"] == TEXT.markdown


def test_a_channel_that_refuses_says_why_and_shows_no_secret(receiver: Receiver) -> None:
    receiver.status = 503
    with pytest.raises(ChannelError, match=r"did not take a message: .*503") as raised:
        Channel(receiver.channel).send(TEXT)
    assert "s3cret" not in str(raised.value)


def test_apprise_writes_nothing_into_our_log(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver.status = 503
    handler = BufferingHandler(1000)
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    with pytest.raises(ChannelError):
        Channel(receiver.channel).send(TEXT)
    assert [record for record in handler.buffer if record.name.startswith("apprise")] == []


def test_a_channel_keeps_its_name_and_shows_no_secret() -> None:
    url = "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"
    assert Channel(url).name == Channel(url).name
    assert Channel(url).name.startswith("slack-")
    assert not any(part in Channel(url).name for part in url.split("/")[2:])


def test_the_same_place_is_told_once(receiver: Receiver) -> None:
    other = receiver.channel.replace("hook", "hook2")
    assert len(open_channels([receiver.channel, receiver.channel, other])) == 2


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("slck://a/b/c", "URL 2 begins with nothing that Apprise knows; it needs a service, the nearest are slack://"),
        ("mailto://", r"URL 2 \(mailto://…\) lacks something that Apprise needs"),
        ("just words", "URL 2 begins with nothing that Apprise knows"),
    ],
)
def test_a_url_that_apprise_does_not_know_is_refused(receiver: Receiver, url: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^notify_urls: {sentence}"):
        open_channels([receiver.channel, url])


def test_a_refused_url_shows_no_secret() -> None:
    with pytest.raises(ConfigError) as raised:
        open_channels(["slack://s3cret-token"])
    assert "s3cret" not in str(raised.value)


def test_the_switch_hears_start_end_and_failure(receiver: Receiver) -> None:
    switch = DeadMansSwitch(receiver.ping_url)
    for signal in Signal:
        switch.tell(signal, f"text of {signal.name}")
    assert receiver.signals == ["/start", "", "/fail"]
    assert receiver.requests[2][1] == "text of FAIL"


def test_the_switch_keeps_the_query_of_its_address(receiver: Receiver) -> None:
    DeadMansSwitch(receiver.ping_url + "?create=1").tell(Signal.START)
    assert receiver.signals == ["/start?create=1"]


def test_a_switch_that_is_not_reached_is_a_warning_without_its_address(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.status = 404
    DeadMansSwitch(receiver.ping_url).tell(Signal.OK)
    DeadMansSwitch("http://127.0.0.1:9/ping-s3cret").tell(Signal.OK)
    assert caplog.messages == [
        "ping_url at 127.0.0.1 was not reached: it answered with the status 404",
        "ping_url at 127.0.0.1 was not reached: ConnectionError",
    ]


def test_without_an_address_there_is_no_switch(caplog: pytest.LogCaptureFixture) -> None:
    DeadMansSwitch(None).tell(Signal.OK)
    assert caplog.messages == []
