"""Files whose items are files: they are classified, and gone on with where a run was stopped."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lmaas.broker_config.errors import DataError
from lmaas.broker_config.messages import Item, Reply, Request, Result
from lmaas.broker_config.settings import Settings
from lmaas.producer.bulk import Run, Summary, Task
from lmaas.producer.tables import Place, Taking, Wanted
from tests.unit.producer.test_bulk import Fake, Gone, breaks_at

FILES = 60
SETTINGS = Settings(pack_items=4, window=2)
TAKING = Taking(("image/*",))


class Sees(Fake):
    """Labels bytes by their media type and length."""

    async def run(self, request: Request) -> Reply:
        await super().run(request)
        results = [Result(id=item.id, label=_label(item), score=0.5) for item in request.items]
        return Reply(model=request.model, version=self.version, results=results)


def _label(item: Item) -> str:
    assert item.data is not None
    return f"{item.media_type} {len(item.data)}"


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    root.mkdir()
    for number in range(FILES):
        content = b"" if number % 10 == 0 else b"x" * number
        (root / f"{number:02}.png").write_bytes(content)
    return root


@pytest.fixture
def source(request: pytest.FixtureRequest, photos: Path, tmp_path: Path) -> tuple[Path, Wanted]:
    """The same pictures in another way."""
    files = sorted(photos.iterdir())
    contents = [path.read_bytes() for path in files]
    path = tmp_path / f"in.{request.param}"
    match request.param:
        case "folder":
            return photos, Wanted(taking=TAKING)
        case "zip":
            with zipfile.ZipFile(path, "w") as archive:
                for file in files:
                    archive.write(file, file.name)
        case "tar.gz":
            with tarfile.open(path, "w:gz") as archive:
                for file in files:
                    archive.add(file, file.name)
        case "csv":
            path.write_text("file\n" + "".join(f"photos/{file.name}\n" for file in files))
            return path, Wanted(path="file", taking=TAKING)
        case _:
            values = pa.array(contents, pa.binary())
            names = [file.name for file in files]
            pq.write_table(pa.table({"file": names, "image": values}), path)
            return path, Wanted(data="image", taking=TAKING)
    return path, Wanted(taking=TAKING)


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks of a few files, and a checkpoint after every second one."""
    monkeypatch.setattr("lmaas.producer.tables.contents.CHUNK_ROWS", 8)
    monkeypatch.setattr("lmaas.producer.tables.parquet.CHUNK_ROWS", 8)
    monkeypatch.setattr("lmaas.producer.tables.paths.CHUNK_BYTES", 150)
    monkeypatch.setattr("lmaas.producer.bulk.CHECKPOINT_ROWS", 16)


async def classify(
    source: tuple[Path, Wanted], out: Path, fake: Sees, *, resume: bool = False
) -> Summary:
    path, wanted = source
    place = Place.of(str(path))
    task = Task(source=place, target=Place.to(str(out)), model="m", wanted=wanted)
    with Run(task, SETTINGS, resume=resume) as run:
        return await run.classify(fake)


@pytest.mark.parametrize("source", ["folder", "zip", "tar.gz", "csv", "parquet"], indirect=True)
@pytest.mark.parametrize("suffix", ["csv", "parquet"])
async def test_every_way_in_is_resumed(
    source: tuple[Path, Wanted], tmp_path: Path, suffix: str
) -> None:
    whole, out = tmp_path / f"whole.{suffix}", tmp_path / f"out.{suffix}"
    summary = await classify(source, whole, Sees())
    assert (summary.rows, summary.failed) == (FILES, 6)
    assert summary.failures[0].endswith("invalid_item: it is empty: there are no bytes in it")
    with pytest.raises(Gone):
        await classify(source, out, Sees(stop=breaks_at(9)))
    later = Sees()
    summary = await classify(source, out, later, resume=True)
    assert 0 < summary.resumed_at < summary.rows == FILES
    assert min(int(item.id) for each in later.requests for item in each.items) >= summary.resumed_at
    assert out.read_bytes() == whole.read_bytes()
    if suffix == "csv":
        lines = out.read_text().splitlines()
        assert lines[0] == "file,label,score,error"
        assert lines[60].endswith("59.png,image/png 59,0.5,") or lines[60].endswith(
            "59.png,application/octet-stream 59,0.5,"  # of Parquet's bytes there is no name
        )


@pytest.mark.parametrize("source", ["folder"], indirect=True)
async def test_what_the_model_takes_is_the_same_in_a_run_that_is_resumed(
    source: tuple[Path, Wanted], tmp_path: Path
) -> None:
    out = tmp_path / "out.csv"
    with pytest.raises(Gone):
        await classify(source, out, Sees(stop=breaks_at(9)))
    other = (source[0], Wanted(taking=Taking(("image/png",))))
    with pytest.raises(DataError, match=r"what the model takes of files was \['image/\*'\]"):
        await classify(other, out, Sees(), resume=True)
