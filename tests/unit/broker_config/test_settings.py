"""Layers of settings, what is refused, and what is never shown."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import traceback
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from yarl import URL

from lmaas.broker_config import folders
from lmaas.broker_config.errors import SettingsError
from lmaas.broker_config.hosts import _url, connect
from lmaas.broker_config.private_files import held
from lmaas.broker_config.settings import Settings, hosts, masked


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with nothing in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_arguments_beat_environment_beats_file_beats_default(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Settings.load().prefix == "lmaas"
    (folder / "lmaas.toml").write_text('prefix = "file"\nheartbeat = 7\nthreads = 3\n')
    assert Settings.load().prefix == "file"
    monkeypatch.setenv("LMAAS_PREFIX", "environment")
    monkeypatch.setenv("LMAAS_HEARTBEAT", "8")
    assert Settings.load().prefix == "environment"
    settings = Settings.load(prefix="argument", heartbeat=None)
    assert (settings.prefix, settings.heartbeat, settings.threads) == ("argument", 8, 3)


def test_a_running_private_broker_is_found_and_beaten_by_everything_else(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    (folder / "lmaas").mkdir()
    of_producer, of_worker = folder / "lmaas" / "up.toml", folder / "lmaas" / "up-worker.toml"
    with (
        held(of_producer, b'broker_url = "amqp://up/"\n'),
        held(of_worker, b'broker_url = "amqp://worker@up/"\n'),
    ):
        assert Settings.load().broker_url == "amqp://up/"
        assert Settings.load("worker").broker_url == "amqp://worker@up/"
        assert Settings.load("gateway").broker_url == "amqp://up/"
        (folder / "lmaas.toml").write_text('broker_url = "amqp://file/"\n')
        assert Settings.load("worker").broker_url == Settings.load().broker_url == "amqp://file/"
    assert not of_producer.exists()


#: Publishes a private broker, and is killed.
KILLED = """
import os, pathlib, signal, sys
from lmaas.broker_config.private_files import held

with held(pathlib.Path(sys.argv[1]), b'broker_url = "amqp://up:secret@here/"\\n'):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_private_broker_that_was_killed_is_told_and_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else may have its port by now, and would be given the password."""
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    (folder / "lmaas").mkdir()
    up = folder / "lmaas" / "up.toml"
    ended = subprocess.run([sys.executable, "-c", KILLED, up], timeout=60, check=False)
    assert (ended.returncode, "secret" in up.read_text()) == (-signal.SIGKILL, True)
    assert Settings.load().broker_url == Settings().broker_url
    assert f"{up} is not used: the `lmaas up`" in caplog.text
    with held(up, b'broker_url = "amqp://up/"\n'):  # it was started again
        assert Settings.load().broker_url == "amqp://up/"


def test_a_named_file_is_read_in_place_of_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "lmaas.toml").write_text('prefix = "near"\n')
    (folder / "named.toml").write_text('prefix = "named"\n')
    monkeypatch.setenv("LMAAS_CONFIG", "named.toml")
    assert Settings.load().prefix == "named"
    monkeypatch.setenv("LMAAS_CONFIG", "gone.toml")
    with pytest.raises(SettingsError, match=r"'gone\.toml', which is not a file"):
        Settings.load()


#: The number of a user that is neither who runs the tests nor root.
SOMEBODY = 54_321


def given_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the file be that of another user than who asks."""
    if os.geteuid() == 0:
        os.chown(path, SOMEBODY, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: SOMEBODY)


def test_a_file_of_another_user_is_obeyed_only_when_it_was_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "lmaas.toml"
    path.write_text('broker_password_command = "theirs"\n')
    given_away(path, monkeypatch)
    with pytest.raises(SettingsError, match=r"'lmaas\.toml' belongs to another user .*CONFIG"):
        Settings.load()
    monkeypatch.setenv("LMAAS_CONFIG", "lmaas.toml")
    assert Settings.load().broker_password_command == "theirs"


def test_a_file_that_everybody_may_write_is_obeyed_only_when_it_was_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "lmaas.toml"
    path.write_text('prefix = "mine"\n')
    path.chmod(0o664)
    assert Settings.load().prefix == "mine"
    path.chmod(0o646)
    with pytest.raises(SettingsError, match=r"written by everybody .*0646.*chmod o-w"):
        Settings.load()
    monkeypatch.setenv("LMAAS_CONFIG", str(path))
    assert Settings.load().prefix == "mine"


def test_the_private_broker_of_another_user_is_not_used(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    (folder / "lmaas").mkdir()
    up = folder / "lmaas" / "up.toml"
    up.write_text('broker_url = "amqp://theirs/"\n')
    given_away(up, monkeypatch)
    (folder / "named.toml").write_text("")
    monkeypatch.setenv("LMAAS_CONFIG", "named.toml")  # which says nothing of that file
    with pytest.raises(SettingsError, match="belongs to another user"):
        Settings.load()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_who_works_by_sudo_has_files_of_who_called_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "lmaas.toml"
    path.write_text('prefix = "mine"\n')
    given_away(path, monkeypatch)
    monkeypatch.setenv("SUDO_UID", str(SOMEBODY))
    assert Settings.load().prefix == "mine"
    monkeypatch.setenv("SUDO_UID", str(SOMEBODY + 1))
    with pytest.raises(SettingsError, match="belongs to another user"):
        Settings.load()


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("prefix = ", r"lmaas\.toml"),
        ("perfix = 'x'", "perfix"),
        ("heartbeat = 0", "heartbeat"),
        ("heartbeat = 'soon'", "heartbeat"),
        ("timeout = 0", "timeout"),
        ("linger = -1", "linger"),
        ("queue_type = 'stream'", "queue_type"),
        ("prefix = 'a b'", "prefix"),
        ("pack_items = 0", "pack_items"),
        ("retry_delays = []", "retry_delays"),
        ("retry_delays = ['1s', '5']", r"retry_delays\[1\] .* such as 500ms, 5s, 2m"),
        ("retry_delays = ['0s']", "retry_delays"),
        ("retry_delays = ['10000m']", "retry_delays"),
        ("retry_delays = [5]", "retry_delays"),
        ("\xff", r"lmaas\.toml"),
    ],
)
def test_a_wrong_file_is_named_with_the_setting(folder: Path, content: str, complaint: str) -> None:
    (folder / "lmaas.toml").write_text(content, encoding="latin-1")
    with pytest.raises(SettingsError, match=complaint) as failure:
        Settings.load()
    assert "lmaas.toml" in str(failure.value)
    assert "\n" not in str(failure.value)


def test_a_wrong_environment_or_argument_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = r"threads \(argument\) is -1: expected a whole number >= 0"
    with pytest.raises(SettingsError, match=words):
        Settings.load(threads=-1)
    with pytest.raises(SettingsError, match=r"argument.*tread"):
        Settings.load(tread=1)
    monkeypatch.setenv("LMAAS_TIMEOUT", "soon")
    with pytest.raises(SettingsError, match=r"LMAAS_TIMEOUT is 'soon': expected a number"):
        Settings.load()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("policy", "lifo", "one of fifo, sjf, srtf"),
        ("balance", "fair", "one of prefetch, round_robin, random"),
        ("ageing", "inf", "a number <= "),
        ("ageing", "nan", "a number >= 0"),
        ("prefetch", "65536", "a whole number <= 65535"),
    ],
)
def test_what_a_setting_may_be_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(f"LMAAS_{name.upper()}", value)
    with pytest.raises(SettingsError, match=f"LMAAS_{name.upper()} is '{value}': expected") as bad:
        Settings.load()
    assert expected in str(bad.value)


def test_environment_text_becomes_numbers_and_lists(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMAAS_TIMEOUT", "1.5")
    monkeypatch.setenv("LMAAS_PROVIDERS", "CUDAExecutionProvider,CPUExecutionProvider")
    monkeypatch.setenv("LMAAS_PREFIX", "")
    settings = Settings.load()
    assert settings.timeout == 1.5
    assert settings.providers == ("CUDAExecutionProvider", "CPUExecutionProvider")
    assert settings.prefix == "lmaas"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("amqp://me:secret@host:5672/v", "amqp://me:***@host:5672/v"),
        ("amqp://a:secret@h1,amqps://b:secret@h2", "amqp://a:***@h1,amqps://b:***@h2"),
        ("amqp://host/", "amqp://host/"),
        ("amqp://me:secret@host:notaport/", "amqp://me:***@host:notaport/"),
        ("me:secret@host", "***@host"),
        ("secret", "(not a URL)"),
        ("amqp://me:secret", "amqp://***"),
        ("amqp://me:12,secret@host", "amqp://me:***@host"),
        ("amqp://me:a%2Csecret@host/v", "amqp://me:***@host/v"),
        ("amqp://me:a@secret#b?c/d@host:5672/v", "amqp://me:***@host:5672/v"),
        ("amqp://me:secret@h1, amqp://host:5672/v", "amqp://me:***@h1,amqp://host:5672/v"),
        ("--broker=amqp://me:secret@host/", "--broker=amqp://me:***@host/"),
        ("amqp://[::1]:5672/v", "amqp://[::1]:5672/v"),
        ("amqp://:secret@host", "amqp://:***@host"),
    ],
)
def test_passwords_are_never_shown(url: str, shown: str) -> None:
    settings = Settings(broker_url=url)
    assert masked(url) == settings.broker == shown
    for text in (repr(settings), str(settings), f"{settings}"):
        assert "secret" not in text
        assert shown in text


@given(password=st.text(min_size=3), quoted=st.booleans(), other=st.booleans())
def test_no_piece_of_any_password_is_shown(password: str, quoted: bool, other: bool) -> None:
    encodable = password.encode(errors="replace").decode()
    written = quote(encodable, safe="") if quoted else encodable
    # By definition another host begins there.
    assume(not re.search(r",\s*amqps?://", written))
    before, after = "amqp://user:", "@host:5672/v"
    more = ",amqps://other/" if other else ""
    shown = masked(before + written + after + more)
    assert shown == before + "***" + after + more
    assert URL(before + quote(encodable, safe="") + after).password == encodable


@pytest.mark.parametrize(
    "password", ["a/b", "a#b", "1#b", "1/b", "1?b", "a@b/c", "[", "12,amqp://"]
)
def test_what_is_no_url_is_told_without_the_password(password: str) -> None:
    url = f"amqp://user:secret{password}@host/"
    with pytest.raises(SettingsError) as failure:
        _url(url)
    assert "secret" not in "".join(traceback.format_exception(failure.value))
    assert "host/" in str(failure.value)


@pytest.mark.parametrize("url", ["amqp://u:1#b@h/", "amqp://u:1/b@h/", "amqp://u:1?b@h/"])
def test_a_password_that_ends_the_host_early_is_no_host_of_the_user_s_name(url: str) -> None:
    with pytest.raises(SettingsError, match=r"amqp://u:\*\*\*@h/.*%23"):
        _url(url)


def test_each_host_is_a_url() -> None:
    assert hosts("amqp://u:a,b@h1, amqps://h2") == ["amqp://u:a,b@h1", "amqps://h2"]
    assert _url("amqp://u:a,b@h1").password == "a,b"
    with pytest.raises(SettingsError, match="separated by commas"):
        _url("amqp://h1,h2")


def test_the_user_is_the_one_of_the_url_or_the_one_that_is_named() -> None:
    assert Settings(broker_url="amqp://h").user == "guest"
    assert Settings(broker_url="amqp://a%2Eb%40c:secret@h1,amqp://a.b%40c:s@h2").user == "a.b@c"
    assert Settings(broker_url="amqp://:token@h", broker_user="me").names.user == "me"
    with pytest.raises(SettingsError, match="have different users") as failure:
        _ = Settings(broker_url="amqp://a:secret@h1,amqp://b:secret@h2").names
    assert "secret" not in str(failure.value)


@pytest.mark.parametrize("setting", ["tls_ca", "tls_certificate", "tls_key"])
async def test_tls_files_without_a_host_that_uses_them_are_refused(setting: str) -> None:
    plain = Settings(broker_url="amqp://h1,amqp://h2", **{setting: "file.pem"})
    with pytest.raises(SettingsError, match=f"{setting} would not be used.*amqps://"):
        await connect(plain, name="test")


def test_a_wrong_password_setting_is_not_shown_in_the_error(folder: Path) -> None:
    (folder / "lmaas.toml").write_text("broker_url = ['amqp://me:secret@host']\n")
    with pytest.raises(SettingsError, match="broker_url") as failure:
        Settings.load()
    assert "secret" not in str(failure.value)


def test_names_follow_the_prefix() -> None:
    assert Settings(prefix="team-a").names.work == "team-a.v1.work"


# ------------------------------------------------------------------- folders of models


def test_without_a_setting_models_are_the_users_own_and_what_was_installed(folder: Path) -> None:
    own = folder / "data" / "lmaas" / "models"
    assert Settings.load().model_folders == (own, folders.SHIPPED_MODELS)
    assert Settings.load().new_models == own
    assert (folders.SHIPPED_MODELS / "sentiment" / "1" / "model.onnx").is_file()


@pytest.mark.parametrize(
    "content", ["models = ['a', 'b']", f"models = 'a{os.pathsep}b'", "models = ['a', 'b', 'a', '']"]
)
def test_models_are_several_folders_in_a_file(folder: Path, content: str) -> None:
    (folder / "lmaas.toml").write_text(content)
    settings = Settings.load()
    assert settings.model_folders == (Path("a"), Path("b"), folders.SHIPPED_MODELS)
    assert settings.new_models == Path("a")


def test_models_are_several_folders_in_the_environment(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMAAS_MODELS", f"a{os.pathsep}b")
    assert Settings.load().named_models == [Path("a"), Path("b")]
    assert Settings.load(models="c").named_models == [Path("c")]


def test_what_was_installed_is_looked_at_once_where_it_was_named(folder: Path) -> None:
    (folder / "link").symlink_to(folders.SHIPPED_MODELS)
    settings = Settings(models=("link", "b"))
    assert settings.model_folders == (Path("link"), Path("b"))


@pytest.mark.parametrize("value", ["1", "[1]", "{a = 1}"])
def test_folders_of_models_are_texts(folder: Path, value: str) -> None:
    (folder / "lmaas.toml").write_text(f"models = {value}\n")
    with pytest.raises(SettingsError, match="models"):
        Settings.load()


@pytest.mark.parametrize("home", [None, "", "/dev/null"])
def test_without_a_home_there_are_no_folders_of_the_user(
    folder: Path, monkeypatch: pytest.MonkeyPatch, home: str | None
) -> None:
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    if home is not None:
        monkeypatch.setenv("HOME", home)
    monkeypatch.setattr("os.getuid", lambda: 54321)  # not in the list of users
    settings = Settings.load()
    assert settings.broker_url == Settings().broker_url
    if home == "/dev/null":
        return
    assert settings.model_folders == (folders.SHIPPED_MODELS,)
    assert (folders.state(), folders.config(), folders.cache(), folders.up_file()) == (None,) * 4
    with pytest.raises(SettingsError, match=r"no home.*name one with --models"):
        assert settings.new_models


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('brokerurl = "x"', r"there is no setting 'brokerurl'; did you mean broker_url\?"),
        ("[lmaas]\ntimeout = 3", r"\[lmaas\]: there is no such section, only gateway"),
        ("models = 3", r"models \(.*\) is 3: expected text or a list, got a whole number"),
    ],
)
def test_a_wrong_file_is_told_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, told: str
) -> None:
    (tmp_path / "s.toml").write_text(content)
    monkeypatch.setenv("LMAAS_CONFIG", str(tmp_path / "s.toml"))
    with pytest.raises(SettingsError, match=told):
        Settings.load()
