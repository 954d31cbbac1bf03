"""Signed versions: which are served, and what is said of the others. Marks against roll-backs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from lmaas.broker_config.errors import DataError, LmaasError, ModelDamaged, SettingsError
from lmaas.broker_config.settings import Settings
from lmaas.cli.models import command
from lmaas.workers.manifest import decoded
from lmaas.workers.marks import Marks
from lmaas.workers.model_version import ModelVersion
from lmaas.workers.models import Models
from lmaas.workers.repository import activate, opened
from lmaas.workers.signing import SigningKey, Statement, key_id, write_pair
from lmaas.workers.trust import Trust
from tests.unit.workers import networks

#: Runs `lmaas models`, on the folder of the test.
Run = Callable[..., Result]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    path = tmp_path / "mine"
    write_pair(path)
    return path


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder with versions 1, 2 and 10 of a tiny model, not signed yet."""
    for version in ("1", "2", "10"):
        networks.save(tmp_path / "models" / "tiny" / version)
    return tmp_path / "models"


@pytest.fixture
def settings(repository: Path, key: Path) -> Settings:
    return Settings(models=str(repository), model_keys=f"{key}.pub")


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    # What signing does not look at need not be run.
    monkeypatch.setattr("lmaas.cli.models_tried.can_run", lambda: False)

    def run(*arguments: object, keys: bool = True) -> Result:
        environment = {"LMAAS_MODELS": str(settings.models)}
        if keys:
            environment["LMAAS_MODEL_KEYS"] = str(settings.model_keys)
        return CliRunner().invoke(command, [*map(str, arguments)], env=environment)

    return run


@pytest.fixture
def signed(run: Run, key: Path, repository: Path) -> Path:
    """The folder of the versions, each signed, 10 last."""
    for version in (1, 2, 10):
        ended = run("sign", "tiny", version, "--key", key)
        assert ended.exit_code == 0, ended.output
    return repository / "tiny"


def found(settings: Settings, version: str | None = None) -> ModelVersion:
    return opened(settings).find("tiny", version)


def statement(file: Path) -> Statement:
    return Statement.decoded(file.read_bytes())


# ------------------------------------------------------------------- what is served


def test_what_is_signed_is_served(settings: Settings, signed: Path, key: Path) -> None:
    version = found(settings)
    assert version.manifest.version == "10"
    assert version.signed is not None
    assert version.signed.key == key_id(SigningKey.read(key).public)
    assert found(settings, "1").signed


def test_what_is_not_signed_is_left_out_and_the_one_before_answers(
    settings: Settings, signed: Path
) -> None:
    (signed / "10" / "signature.json").unlink()
    with pytest.raises(ModelDamaged, match="it is not signed"):
        found(settings, "10")
    repository = opened(settings)
    assert repository.find("tiny").manifest.version == "2"
    assert "sign tiny 10 --key FILE" in repository.told[0]


def test_without_keys_signatures_count_for_nothing(settings: Settings, signed: Path) -> None:
    (signed / "10" / "signature.json").write_text("{")
    (signed / "active").write_text("1\n")
    version = found(msgspec.structs.replace(settings, model_keys=None))
    assert (version.manifest.version, version.signed) == ("1", None)


def test_each_byte_of_the_manifest_is_signed(settings: Settings, signed: Path) -> None:
    manifest = signed / "10" / "manifest.json"
    content = manifest.read_bytes()
    manifest.write_bytes(content + b"\n")  # means the same
    with pytest.raises(ModelDamaged, match="manifest of 'tiny' version 10 is not the one"):
        found(settings, "10")
    changed = json.loads(content)
    changed["labels"].reverse()
    manifest.write_text(json.dumps(changed))
    with pytest.raises(ModelDamaged, match="is not the one that was signed"):
        found(settings, "10")


def test_so_is_each_byte_of_every_file(settings: Settings, signed: Path) -> None:
    """By its sha256 in the manifest: a new manifest of another file is not the one that was
    signed."""
    file = signed / "10" / "vocabulary.txt"
    file.write_bytes(file.read_bytes() + b"x\n")
    with pytest.raises(ModelDamaged, match="vocabulary"):
        found(settings, "10")


@pytest.mark.parametrize("field", ["what", "model", "version", "manifest", "time", "key"])
def test_each_field_of_the_statement_is_signed(
    settings: Settings, signed: Path, key: Path, field: str
) -> None:
    write_pair(key.with_name("other"))
    other = SigningKey.read(key.with_name("other"))
    assert settings.model_keys
    trust = Trust.read(Path(settings.model_keys))
    # That key is known, too, and did not sign it.
    trust.keys[key_id(other.public)] = other.public
    values = {
        "what": "active", "model": "other", "version": "3", "manifest": "0" * 64, "time": 1,
        "key": key_id(other.public),
    }  # fmt: skip
    file = signed / "10" / "signature.json"
    forged = msgspec.structs.replace(statement(file), **{field: values[field]})
    manifest = (signed / "10" / "manifest.json").read_bytes()
    with pytest.raises(ModelDamaged, match="did not sign this"):
        trust.check(forged.encoded(), file, "version", "tiny", "10", manifest)


@pytest.mark.parametrize("signature", ["", "AAAA", "x", "é", "A" * 88])
def test_a_signature_that_is_none(settings: Settings, signed: Path, signature: str) -> None:
    file = signed / "10" / "signature.json"
    file.write_bytes(msgspec.structs.replace(statement(file), signature=signature).encoded())
    with pytest.raises(ModelDamaged, match="did not sign this"):
        found(settings, "10")


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"{}", b"\xff", b"[" * 9_000, b'{"time": 1e400}', b"{}" * 20_000],
)
def test_a_signature_file_that_is_none(settings: Settings, signed: Path, content: bytes) -> None:
    file = signed / "10" / "signature.json"
    file.write_bytes(content)
    with pytest.raises(ModelDamaged, match=r"signature\.json") as failure:
        found(settings, "10")
    assert "\n" not in str(failure.value)


def test_a_signature_file_that_is_a_link_or_a_folder(settings: Settings, signed: Path) -> None:
    file = signed / "10" / "signature.json"
    file.rename(signed / "elsewhere")
    file.symlink_to(signed / "elsewhere")
    with pytest.raises(ModelDamaged, match="a link"):
        found(settings, "10")
    file.unlink()
    file.mkdir()
    with pytest.raises(ModelDamaged, match="not a file"):
        found(settings, "10")


def test_somebody_elses_signature(settings: Settings, run: Run, signed: Path, key: Path) -> None:
    write_pair(key.with_name("other"))
    assert run("sign", "tiny", 10, "--key", key.with_name("other")).exit_code == 0
    with pytest.raises(ModelDamaged, match=f"none of those in {key}.pub"):
        found(settings, "10")


@pytest.mark.parametrize("place", ["tiny/11", "other/10"])
def test_a_version_that_was_copied_to_another_name_or_number(
    settings: Settings, signed: Path, place: str
) -> None:
    shutil.copytree(signed / "10", signed.parent / place)
    model, version = place.split("/")
    with pytest.raises(ModelDamaged, match="signed as 'tiny' version 10") as failure:
        opened(settings).find(model, version)
    assert f"not as {model!r} version {version}" in str(failure.value)


# ------------------------------------------------------------------- which one answers


def test_an_activation_counts_when_it_is_signed(
    settings: Settings, run: Run, signed: Path, key: Path
) -> None:
    activate(signed.parent, "tiny", "1")  # as anybody does who may write there
    repository = opened(settings)
    assert repository.find("tiny").manifest.version == "10"
    assert "that version 1 answers is not signed" in repository.told[0]
    assert run("activate", "tiny", 1).exit_code != 0
    ended = run("activate", "tiny", 1, "--sign", key)
    assert "version 1 answers" in ended.output
    assert found(settings).manifest.version == "1"
    # Of two moments the later one counts.
    assert found(settings).signed == Statement.decoded(
        (signed / "active").read_bytes().splitlines()[1]
    )
    (signed / "active").write_bytes((signed / "active").read_bytes().replace(b"1\n", b"2\n", 1))
    repository = opened(settings)
    assert repository.find("tiny").manifest.version == "10"
    assert "copied here from elsewhere" in repository.told[0]


def looked(models: Models) -> str:
    """The version that answers after two looks."""
    runtime = models.newer("tiny") or models.newer("tiny")
    if runtime is not None:
        models.switch(runtime)
    return models.current["tiny"]


def refused(models: Models) -> str:
    """Why what is there now is not switched to."""
    assert models.newer("tiny") is None
    with pytest.raises(ModelDamaged) as failure:
        models.newer("tiny")
    assert models.current["tiny"]
    return str(failure.value)


@pytest.fixture(params=[False, True], ids=["of this process", "in a file"])
def marked(settings: Settings, tmp_path: Path, request: pytest.FixtureRequest) -> Settings:
    """What was served is remembered by the process, or in a file, too."""
    path = str(tmp_path / "marks.json") if request.param else None
    return msgspec.structs.replace(settings, model_marks=path)


def test_a_version_that_disappears_is_no_way_back(
    marked: Settings, run: Run, signed: Path, key: Path
) -> None:
    models = Models(marked)
    assert models.load("tiny").manifest.version == "10"
    shutil.rmtree(signed / "10")
    assert "rolled back: it was signed at 20" in refused(models)
    # Who asks for an old version by its number gets it.
    assert models.load("tiny", "2").manifest.version == "2"
    # After a restart the process knows nothing, but the file does.
    if marked.model_marks is None:
        assert Models(marked).load("tiny").manifest.version == "2"
    else:
        with pytest.raises(ModelDamaged, match="rolled back"):
            Models(marked).load("tiny")
    # And who signs may go back.
    assert run("activate", "tiny", 2, "--sign", key).exit_code == 0
    assert looked(models) == "2"
    assert Models(marked).load("tiny").manifest.version == "2"


def test_an_old_activation_is_no_way_back(
    marked: Settings, run: Run, signed: Path, key: Path
) -> None:
    models = Models(marked)
    assert models.load("tiny").manifest.version == "10"
    assert run("activate", "tiny", 1, "--sign", key).exit_code == 0
    assert looked(models) == "1"
    kept = (signed / "active").read_bytes()
    # Taking it away, without a signature, does not let 10 answer again ...
    (signed / "active").unlink()
    assert "rolled back" in refused(models)
    # ... and after this the old one is of no use any more.
    (signed / "active").write_bytes(kept)
    assert run("activate", "tiny", "--newest", "--sign", key).exit_code == 0
    assert not (signed / "active").exists()
    assert looked(models) == "10"
    (signed / "active").write_bytes(kept)
    assert looked(models) == "10"
    assert "version 1: rolled back" in models.repository.told[-1]


def test_older_files_of_the_same_number_are_no_way_back(
    marked: Settings, run: Run, signed: Path, key: Path, tmp_path: Path
) -> None:
    models = Models(marked)
    assert models.load("tiny").manifest.min_score == 0
    shutil.copytree(signed / "10", tmp_path / "kept")
    ended = run("set", "tiny", 10, "--min-score", 0.9, "--sign", key)
    assert ended.exit_code == 0, ended.output
    models.newer("tiny")
    models.newer("tiny")
    assert models.load("tiny").manifest.min_score == 0.9
    shutil.rmtree(signed / "10")
    shutil.copytree(tmp_path / "kept", signed / "10")
    assert "rolled back" in refused(models)


def test_clocks_that_go_back_do_not_matter(
    settings: Settings, run: Run, signed: Path, key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = statement(signed / "10" / "signature.json").time
    monkeypatch.setattr("time.time_ns", lambda: 1_000_000_000_000)
    assert run("activate", "tiny", 1, "--sign", key).exit_code == 0
    first = Statement.decoded((signed / "active").read_bytes().splitlines()[1]).time
    assert run("sign", "tiny", 2, "--key", key).exit_code == 0
    assert before < first < statement(signed / "2" / "signature.json").time


def test_the_time_of_a_forged_statement_does_not_count(run: Run, signed: Path, key: Path) -> None:
    file = signed / "1" / "signature.json"
    file.write_bytes(msgspec.structs.replace(statement(file), time=(1 << 53) - 1).encoded())
    assert run("sign", "tiny", 10, "--key", key).exit_code == 0
    assert statement(signed / "10" / "signature.json").time < 1 << 50


# ------------------------------------------------------------------- marks


def test_processes_share_a_file_of_marks(tmp_path: Path) -> None:
    first, second = Marks(tmp_path / "marks"), Marks(tmp_path / "marks")
    first.advance("a", 5)
    second.advance("b", 7)
    with pytest.raises(ModelDamaged, match="rolled back"):
        first.check("b", "1", 6)
    second.advance("a", 4)  # is behind already
    Marks(tmp_path / "marks").check("a", "1", 5)
    with pytest.raises(ModelDamaged):
        Marks(tmp_path / "marks").check("a", "1", 4)
    assert (tmp_path / "marks").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"a": "b"}', b"\xff"])
def test_a_file_of_marks_that_is_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "marks").write_bytes(content)
    with pytest.raises(SettingsError, match="model_marks"):
        Marks(tmp_path / "marks")
    assert (tmp_path / "marks").read_bytes() == content
    with pytest.raises(SettingsError, match="name a file that workers may write"):
        Marks(tmp_path / "nowhere" / "marks")


# ------------------------------------------------------------------- keys


def test_a_pair_is_never_overwritten(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "new"
    assert run("keys", path).exit_code == 0
    assert path.stat().st_mode & 0o777 == 0o600
    content = path.read_bytes()
    ended = run("keys", path)
    assert ended.exit_code != 0
    assert isinstance(ended.exception, DataError)
    (tmp_path / "new.pub").unlink()
    assert run("keys", path).exit_code != 0
    assert path.read_bytes() == content
    assert not (tmp_path / "new.pub").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_a_private_key_that_others_may_use(key: Path, mode: int) -> None:
    key.chmod(mode)
    with pytest.raises(DataError, match=f"mode 0{mode:o}.*chmod 600"):
        SigningKey.read(key)


def test_files_that_are_no_private_key(key: Path, tmp_path: Path) -> None:
    public = Path(f"{key}.pub")  # which others may read
    with pytest.raises(DataError, match="no private key in PEM"):
        SigningKey.read(public)
    with pytest.raises(DataError, match="lmaas models keys"):
        SigningKey.read(tmp_path / "nowhere")


def elliptic() -> bytes:
    key = generate_private_key(SECP256R1()).public_key()
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def test_model_keys_that_are_none(key: Path, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    for place, words in ((folder, "no file there ends in"), (tmp_path / "nowhere", "No such file"),
                         (key, "never the private key")):  # fmt: skip
        with pytest.raises(SettingsError, match=words):
            Trust.read(place)
    (folder / "other.pem").write_bytes(elliptic())
    with pytest.raises(SettingsError, match="not of Ed25519"):
        Trust.read(folder)
    (folder / "other.pem").write_text(Path(f"{key}.pub").read_text().replace("MCow", "AAAA"))
    with pytest.raises(SettingsError, match=r"other\.pem.*no public key"):
        Trust.read(folder)


def test_keys_that_everybody_may_write(key: Path, tmp_path: Path) -> None:
    folder = tmp_path / "keys"
    folder.mkdir()
    shutil.copy(f"{key}.pub", folder)
    assert len(Trust.read(folder).keys) == 1
    folder.chmod(0o777)
    with pytest.raises(SettingsError, match="everybody may write there"):
        Trust.read(folder)
    folder.chmod(0o700)
    (folder / "mine.pub").chmod(0o666)
    with pytest.raises(SettingsError, match=r"chmod o-w .*mine\.pub"):
        Trust.read(folder)


def test_two_keys_for_the_time_in_which_one_takes_the_others_place(
    settings: Settings, run: Run, signed: Path, key: Path, tmp_path: Path
) -> None:
    write_pair(tmp_path / "new")
    folder = tmp_path / "keys"
    folder.mkdir()
    both = Path(f"{key}.pub").read_bytes() + (tmp_path / "new.pub").read_bytes()
    (folder / "both.pem").write_bytes(both)
    settings = msgspec.structs.replace(settings, model_keys=str(folder))
    assert run("sign", "tiny", 10, "--key", tmp_path / "new").exit_code == 0
    assert found(settings, "1")
    assert found(settings, "10")
    shutil.copy(tmp_path / "new.pub", folder / "both.pem")
    with pytest.raises(ModelDamaged, match="add its public key there"):
        found(settings, "1")
    assert found(settings, "10")


# ------------------------------------------------------------------- commands


def test_verify_tells_who_signed(run: Run, signed: Path, key: Path) -> None:
    ended = run("verify", "tiny")
    assert ended.exit_code == 0
    assert ended.output.count(f"signed with {key_id(SigningKey.read(key).public)} at 20") == 3
    assert "not set to check" in run("verify", "tiny", keys=False).output
    (signed / "2" / "signature.json").unlink()
    ended = run("verify", "tiny")
    assert ended.exit_code == 1
    assert "tiny 2" in ended.stderr
    assert "not signed" in ended.stderr


def test_what_is_damaged_is_not_signed(run: Run, repository: Path, key: Path) -> None:
    (repository / "tiny" / "10" / "vocabulary.txt").write_text("other")
    ended = run("sign", "tiny", 10, "--key", key)
    assert isinstance(ended.exception, LmaasError)
    assert not (repository / "tiny" / "10" / "signature.json").exists()


def test_set_goes_with_a_new_signature(
    settings: Settings, run: Run, signed: Path, key: Path
) -> None:
    """Else workers would leave out what was changed."""
    assert run("set", "tiny", 10, "--min-score", 0.7).exit_code != 0
    assert found(settings).manifest.min_score == 0
    assert run("activate", "tiny", 10, "--sign", key).exit_code == 0
    assert run("set", "tiny", 10, "--min-score", 0.7, "--sign", key).exit_code == 0
    version = found(settings)
    assert version.manifest.min_score == 0.7
    # The activation names the new manifest, too.
    repository = opened(settings)
    assert repository.active("tiny") == "10"
    assert not repository.told
    # Where nobody asks for signatures, one that does not fit is not left.
    ended = run("set", "tiny", 10, "--min-score", 0.8, keys=False)
    assert ended.exit_code == 0
    assert "did not fit any more" in ended.stderr
    assert not (signed / "10" / "signature.json").exists()


def test_import_signs_in_one_go(settings: Settings, run: Run, signed: Path, key: Path) -> None:
    ended = run("import", signed / "1", "--sign", key)
    assert ended.exit_code == 0, ended.output
    assert found(settings).manifest.version == "11"
    ended = run("import", signed / "1")
    assert "it is not signed" in ended.stderr
    assert found(settings).manifest.version == "11"


def test_the_verified_bytes_of_the_manifest_are_the_ones_that_are_read(
    settings: Settings, signed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody changes it between the check and the loading."""
    manifest = signed / "10" / "manifest.json"
    check = Trust.version

    def swapped(self: Trust, folder: Path, *rest: object) -> Statement:
        statement = check(self, folder, *rest)  # type: ignore[arg-type]
        other = json.loads(manifest.read_bytes()) | {"labels": ["swapped", "labels"]}
        (signed / "fresh").write_text(json.dumps(other))
        (signed / "fresh").replace(manifest)
        return statement

    monkeypatch.setattr(Trust, "version", swapped)
    version = found(settings, "10")
    assert version.manifest.labels == ["label 0", "label 1"]
    assert decoded(manifest.read_bytes()).labels == ["swapped", "labels"]
