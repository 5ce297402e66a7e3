"""The examples' loader: fetched once by the ordinary client, checked, read, never executed."""

import hashlib
import io
import pathlib
import sys
import tarfile
import zipfile

import pytest


sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples"))
from datasets import Dataset, read


SETUP = "open({!r}, 'w').write('setup.py ran')"
TEXT = b"a\tb\n"


def tar(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as t:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            t.addfile(member, io.BytesIO(content))
    return out.getvalue()


def wheel(files: dict[str, bytes]) -> bytes:
    info = "toy-1.0.dist-info/"
    files = files | {
        info + "METADATA": b"Metadata-Version: 2.1\nName: toy\nVersion: 1.0\n",
        info + "WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        info + "RECORD": b"",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as z:
        for name, content in files.items():
            z.writestr(name, content)
    return out.getvalue()


class Registry:
    """A folder that pip takes packages from, and a cache that is empty at first."""

    def __init__(self, folder: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
        self.served, self.cache = folder / "served", folder / "cache"
        self.served.mkdir()
        self.marker = folder / "marker"
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.setenv("PIP_FIND_LINKS", str(self.served))
        monkeypatch.setenv("PIP_EXTRA_INDEX_URL", "")
        monkeypatch.setattr("datasets.user_cache_path", lambda name: self.cache / name)

    def serve(self, archive: str, content: bytes, **options) -> Dataset:
        (self.served / archive).write_bytes(content)
        sha256 = hashlib.sha256(content).hexdigest()
        return Dataset("toy", "1.0", archive, sha256, **options)

    def source(self, files: dict[str, bytes], **options) -> Dataset:
        setup = SETUP.format(str(self.marker)).encode()
        files = {"toy-1.0/setup.py": setup, "toy-1.0/PKG-INFO": b""} | files
        return self.serve("toy-1.0.tar.gz", tar(files), **options)


@pytest.fixture
def registry(tmp_path, monkeypatch):
    return Registry(tmp_path, monkeypatch)


def test_wheel_is_fetched_once(registry):
    toy = registry.serve("toy-1.0-py3-none-any.whl", wheel({"toy/b.txt": b"2", "toy/a.txt": TEXT}))
    assert read(toy, "?.txt") == {"a.txt": TEXT, "b.txt": b"2"}
    (registry.served / toy.archive).unlink()  # as if offline
    assert read(toy, "a.txt") == {"a.txt": TEXT}
    assert [path.name for path in registry.cache.rglob("*.*")] == [toy.archive]


def test_source_archive_is_neither_run_nor_unpacked(registry, tmp_path):
    inner = tar({"../../../evil/a.txt": TEXT, "/etc/b.txt": b"no"})
    toy = registry.source({"toy-1.0/more/inner.tar.gz": inner}, inner="inner.tar.gz")
    assert read(toy, "a.txt") == {"a.txt": TEXT}
    assert not registry.marker.exists()
    found = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert found == {toy.archive}


def test_another_archive_is_not_even_looked_into(registry):
    """Not one with a build backend of its own, which pip would ask for its metadata."""
    backend = SETUP.format(str(registry.marker)).encode()
    system = b'[build-system]\nrequires = []\nbuild-backend = "be"\nbackend-path = ["."]\n'
    files = {"toy-1.0/be.py": backend, "toy-1.0/pyproject.toml": system}
    toy = registry.source(files)._replace(sha256="0" * 64)
    with pytest.raises(SystemExit, match="DO NOT MATCH THE HASHES"):
        read(toy, "a.txt")
    assert not registry.marker.exists()
    assert not list(registry.cache.rglob("*.*"))


def test_npm_is_asked_for_what_it_has(registry, tmp_path, monkeypatch):
    content = tar({"package/a.txt": TEXT})
    toy = registry.serve("toy-1.0.tgz", content)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(SystemExit, match=r"'npm'\n.*bring the file from elsewhere"):
        read(toy, "a.txt")
    npm = tmp_path / "bin/npm"
    npm.parent.mkdir()
    npm.write_text(
        f"#!{sys.executable}\nimport pathlib, sys\n"
        "assert sys.argv[1:4] == ['pack', '--ignore-scripts', '--loglevel=error']\n"
        "assert sys.argv[4:] == ['toy@1.0']\n"
        f"pathlib.Path({toy.archive!r}).write_bytes({content!r})\n"
    )
    npm.chmod(0o755)
    assert read(toy, "a.txt") == {"a.txt": TEXT}


def test_a_copy_that_was_brought(registry, tmp_path):
    toy = registry.serve("toy-1.0.tgz", tar({"package/a.txt": TEXT}))
    assert read(toy, "a.txt", registry.served) == {"a.txt": TEXT}
    (tmp_path / "a.txt").write_bytes(b"mine")
    assert read(toy, "a.txt", tmp_path) == {"a.txt": b"mine"}
    with pytest.raises(SystemExit, match=r"neither b\.txt nor toy-1\.0\.tgz in it"):
        read(toy, "b.txt", tmp_path)
    assert not registry.cache.exists()


def test_damage_is_seen(registry):
    toy = registry.source({"toy-1.0/a.txt": TEXT})
    read(toy, "a.txt")
    path = registry.cache / "jaxrnn" / toy.archive
    damaged = bytearray(path.read_bytes())
    damaged[20] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(SystemExit, match=r"is damaged, or another file.*Remove it"):
        read(toy, "a.txt")


def test_what_cannot_be_fetched(registry):
    toy = registry.source({"toy-1.0/a.txt": TEXT})
    (registry.served / toy.archive).unlink()
    with pytest.raises(SystemExit, match=r"No matching.*toy==1\.0\n.*takes pip and a connection"):
        read(toy, "a.txt")
    assert not list(registry.cache.rglob("*.*"))
