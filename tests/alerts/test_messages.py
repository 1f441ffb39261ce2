"""What messages say, and templates that say it otherwise."""

from pathlib import Path

import pytest

from sync.errors import ConfigError
from sync.notify.message import Message, Severity, Templates, Trouble

REMOVED = "CentOS 7.6 64 bit removed from 34 instance types in cn-hangzhou"
HELD = Trouble("3 removals held in cn-beijing", ("CentOS 7.6 64 bit missing from 3 instance types", "accept them: …"))


def written(folder: Path, **texts: str) -> str:
    for name, text in texts.items():
        (folder / name.replace("_", ".")).write_text(text)
    return str(folder)


def test_a_message_tells_changes_troubles_and_what_is_over() -> None:
    message = Message(changes=(REMOVED,), runs="12", troubles=(HELD,), recoveries=("2 instance types failed",))
    text = Templates().text_of(message)
    assert text.title == "ehpc-image-sync: 3 removals held in cn-beijing, and 2 more"
    assert text.plain == (
        f"Changed in run 12:\n- {REMOVED}\n\n"
        "Needs a look: 3 removals held in cn-beijing\n"
        "- CentOS 7.6 64 bit missing from 3 instance types\n- accept them: …\n\n"
        "Resolved: 2 instance types failed"
    )
    assert text.severity is Severity.WARNING


def test_a_single_change_is_its_own_title() -> None:
    text = Templates().text_of(Message(changes=(REMOVED,), runs="12"))
    assert text.title == f"ehpc-image-sync: {REMOVED}"
    assert text.severity is Severity.INFO


def test_what_is_left_out_is_counted() -> None:
    text = Templates().text_of(Message(changes=(REMOVED,), hidden_count=7, runs="12"))
    assert text.title.endswith("and 7 more")
    assert "… and 7 more: ehpc-image-sync changes" in text.plain


def test_an_end_alone_is_good_news() -> None:
    text = Templates().text_of(Message(recoveries=("cn-beijing failed",)))
    assert (text.title, text.severity) == ("ehpc-image-sync: resolved: cn-beijing failed", Severity.SUCCESS)


def test_names_from_outside_become_no_markup() -> None:
    hostile = "<img src=x onerror=alert(1)> [a](http://evil) *b* _c_ `d` CentOS_7.6_64"
    text = Templates().text_of(
        Message(changes=(hostile,), troubles=(Trouble(hostile, (hostile,)),), recoveries=(hostile,))
    )
    assert "<img" not in text.markdown
    assert "[a]" not in text.markdown
    assert "*b*" not in text.markdown.replace("**", "")
    assert text.markdown.count(r"CentOS\_7.6\_64") == 4


def test_a_template_of_the_user_replaces_one_of_ours(tmp_path: Path) -> None:
    folder = written(
        tmp_path, message_txt="{{ summary | upper }}{% for trouble in troubles %}: {{ trouble.lines[0] }}{% endfor %}"
    )
    text = Templates(folder).text_of(Message(troubles=(HELD,)))
    assert text.plain == "3 REMOVALS HELD IN CN-BEIJING: CentOS 7.6 64 bit missing from 3 instance types"
    assert text.title == "ehpc-image-sync: 3 removals held in cn-beijing"


@pytest.mark.parametrize(
    ("name", "source", "sentence"),
    [
        ("message.txt", "{{ chnages }}", "message.txt names 'chnages', which there is not; there are summary, changes"),
        ("message.md", "{% for t in troubles %}{{ t.subjcet }}{% endfor %}", "message.md cannot be used: .*subjcet"),
        ("title.txt", "{% if %}", "title.txt, line 1:"),
        ("title.txt", "{{ summary | nosuch }}", "title.txt, line 1: No filter named 'nosuch'"),
        ("mesage.txt", "x", "mesage.txt is no template in .*; the names are title.txt, message.txt, message.md"),
        ("title.txt", "{{ 1 / 0 }}", "title.txt cannot be used: division by zero"),
    ],
)
def test_a_template_with_a_mistake_is_refused_when_it_is_read(
    tmp_path: Path, name: str, source: str, sentence: str
) -> None:
    (tmp_path / name).write_text(source)
    with pytest.raises(ConfigError, match=f"^notify_template_dir: {sentence}"):
        Templates(str(tmp_path))


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"notify_template_dir: .* cannot be read"):
        Templates(str(tmp_path / "none"))


def test_a_folder_without_templates_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no template in"):
        Templates(str(tmp_path))


def test_a_template_may_not_reach_into_the_program(tmp_path: Path) -> None:
    (tmp_path / "title.txt").write_text("{{ changes.__class__.__mro__ }}")
    with pytest.raises(ConfigError, match="unsafe"):
        Templates(str(tmp_path))


def test_a_template_that_fails_later_is_replaced_by_ours(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "message.txt").write_text("{{ troubles[0].subject }}")
    text = Templates(str(tmp_path)).text_of(Message(changes=(REMOVED,), runs="12"))
    assert REMOVED in text.plain
    assert "the built-in templates are used instead" in caplog.text
