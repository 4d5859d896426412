"""`mer-lightning data fetch`, from a server on the loopback address with files of the same shape as the public ones."""

from __future__ import annotations

import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mer_lightning.commands.data import main
from mer_lightning.data import fetching
from mer_lightning.data.corpus import open_corpus
from mer_lightning.data.fetching import PublicCorpus, public_corpora
from mer_lightning.data.importing.base import detect, read_raw
from mer_lightning.data.places import find_corpus
from mer_lightning.errors import Refusal
from tests.public_files import EMOTIONS, meld_files, mosi_files, write_files

HOW_TO = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "bring-your-own-data.md"


class Server(http.server.BaseHTTPRequestHandler):
    """Serves `files` by their addresses, with ranges; ends connections after `limit` bytes, and notes what is asked."""

    files: dict[str, bytes]
    limit: int
    asked: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        address, ranged = self.path.lstrip("/"), self.headers.get("Range")
        self.asked.append((address.rpartition("/")[2], ranged))
        data = self.files.get(address)
        if data is None:
            self.send_error(404)
            return
        start = int(ranged.removeprefix("bytes=").removesuffix("-")) if ranged else 0
        self.send_response(206 if ranged else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start : start + self.limit])

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[type[Server]]:
    handler = type("Handler", (Server,), {"files": {}, "limit": 10**9, "asked": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        handler.url = f"http://127.0.0.1:{running.server_port}"  # type: ignore[attr-defined]
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield handler
        running.shutdown()


@pytest.fixture
def corpora(tmp_path: Path, server: type[Server], monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, bytes]]:
    """The real lists with the sums of small files, which the server has at the real addresses."""
    monkeypatch.setenv("MER_DATA", str(tmp_path / "data"))
    small = {"mosi": mosi_files(), "meld": meld_files()}
    listed = {}
    for name, corpus in public_corpora().items():
        sources = []
        for source in corpus.sources:
            sums = {n: [len(small[name][n]), hashlib.sha256(small[name][n]).hexdigest()] for n in source["files"]}
            sources.append(source | {"files": sums})
        listed[name] = PublicCorpus(name, corpus.title, sources)
        server.files |= {file.address: small[name][file.name] for file in listed[name].files}
    monkeypatch.setattr(fetching, "public_corpora", lambda: listed)
    return small


def test_the_list_has_what_it_needs() -> None:
    for corpus in public_corpora().values():
        assert all(len(file.sha256) == 64 and file.size > 1000 for file in corpus.files)
        assert all(len(source["commit"]) == 40 and source["licence"] for source in corpus.sources)
    assert (public_corpora()["mosi"].size, public_corpora()["meld"].size) == (12663993, 4415479)


def test_mosi_is_joined_from_its_files(
    tmp_path: Path, corpora: Any, server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fetch", "mosi", "--yes", "--from", server.url]) == 0
    said = capsys.readouterr().out
    assert "10 files" in said
    assert "declare-lab/multimodal-deep-learning, 9 files, licence: MIT" in said
    assert "zeroQiaoba/GCNet, 1 files, licence: none stated" in said
    assert "--data.corpus mosi" in said
    corpus = open_corpus(tmp_path / "data" / "mosi-utterance")
    assert list(corpus.samples["id"][:3]) == ["video3_2", "video0_1", "video0_2"]
    assert corpus.samples["sentence"][0] == "SO, video3_2"
    assert corpus.target.tolist() == [2.0 - row % 5 for row in [7, 0, 1, 2, 3, 4, 5, 6, 9, 8, 10, 11]]
    assert corpus.tensors["text.values"][:, 0].tolist() == [7, 0, 1, 2, 3, 4, 5, 6, 9, 8, 10, 11]
    assert corpus.dims == {"text": 3, "audio": 2, "vision": 4}
    assert corpus.card.partitions == {
        "declare": {"train": 6, "valid": 2, "test": 4},
        "official": {"train": 4, "valid": 2, "test": 6},
    }


def test_meld_has_text_of_its_own_and_lacks_some_vision(tmp_path: Path, corpora: Any, server: Any) -> None:
    assert main(["fetch", "meld", "--yes", "--from", server.url]) == 0
    corpus = open_corpus(tmp_path / "data" / "meld-utterance")
    assert corpus.card.partitions == {"official": {"train": 28, "valid": 7, "test": 7}}
    assert list(corpus.samples["id"][27:30]) == ["train_dia6_3", "dev_dia0_0", "dev_dia0_1"]
    classes = corpus.card.task["classes"]
    assert [classes[number] for number in corpus.target[:8]] == [*EMOTIONS, "neutral"]
    assert corpus.tensors["vision.offsets"].diff().tolist() == [0] + [1] * 27 + [0] + [1] * 6 + [0] + [1] * 6
    assert corpus.tensors["vision.values"][26:29, 0].tolist() == [63, 1, 2]
    text = corpus.tensors["text.values"]
    same = corpus.samples.groupby("sentence").indices
    for rows in same.values():  # a sentence has one vector, in whatever split it is
        assert np.allclose(text[rows], text[rows[0]])


def test_what_is_here_is_not_fetched_again_and_what_broke_off_goes_on(
    tmp_path: Path, corpora: Any, server: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    server.limit = 150
    small = {name: len(data) for name, data in corpora["meld"].items()}
    assert main(["fetch", "meld", "--yes", "--from", server.url]) == 2
    line = capsys.readouterr().err.strip()
    assert "run the command again, which goes on where it ended" in line
    assert server.asked[0] == ("train_sent_emo.csv", None)
    assert server.asked[1] == ("train_sent_emo.csv", "bytes=150-")
    server.limit, begun = 10**9, len(server.asked)
    assert main(["fetch", "meld", "--yes", "--from", server.url]) == 0
    assert server.asked[begun] == ("train_sent_emo.csv", f"bytes={150 * begun}-")
    assert len(server.asked) == begun + len(small)
    assert main(["fetch", "meld", "--yes", "--from", server.url]) == 0
    assert len(server.asked) == begun + len(small)
    assert not list((tmp_path / "data").rglob("*.part"))


def test_other_bytes_are_refused(tmp_path: Path, corpora: Any, server: Any, capsys: pytest.CaptureFixture[str]) -> None:
    address = next(each for each in server.files if each.endswith("text_test.csv"))
    server.files[address] = b"9" * 5000
    assert main(["fetch", "mosi", "--yes", "--from", server.url]) == 2
    assert "it is another file than the one that was checked" in capsys.readouterr().err
    assert not (tmp_path / "data/fetched/mosi/text_test.csv").exists()
    assert not list((tmp_path / "data").rglob("*.part"))
    del server.files[address]
    assert main(["fetch", "mosi", "--yes", "--from", server.url]) == 2
    assert "404" in capsys.readouterr().err
    assert not (tmp_path / "data" / "mosi-utterance").exists()


def test_the_commands_of_the_how_to_work_as_they_stand(tmp_path: Path, corpora: Any, server: Any) -> None:
    section = HOW_TO.read_text().partition("## Real data in one command")[2].partition("\n## ")[0]
    commands = re.findall(r"^    mer-lightning data (.*)$", section, re.MULTILINE)
    assert commands == ["fetch mosi", "fetch meld"]
    for command in commands:
        assert main([*command.split(), "--yes", "--from", server.url]) == 0
    assert find_corpus("mosi", None).name == "mosi-utterance"
    assert find_corpus("meld", None).name == "meld-utterance"


def test_from_a_folder(tmp_path: Path, corpora: Any, capsys: pytest.CaptureFixture[str]) -> None:
    write_files(tmp_path / "copy", corpora["mosi"])
    assert main(["fetch", "mosi", "--yes", "--from", str(tmp_path / "copy")]) == 0
    assert main(["fetch", "meld", "--yes", "--from", str(tmp_path / "copy")]) == 2
    assert "name the folder that holds the files" in capsys.readouterr().err


def test_it_asks_once_and_no_answer_means_no(
    tmp_path: Path, corpora: Any, server: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for answer in ("", "n"):
        monkeypatch.setattr("builtins.input", lambda question, answer=answer: answer)
        assert main(["fetch", "mosi", "--from", server.url]) == 2
    assert server.asked == []
    assert "--yes answers beforehand" in capsys.readouterr().err
    monkeypatch.setattr("builtins.input", lambda question: "y")
    assert main(["fetch", "mosi", "--from", server.url]) == 0
    assert main(["fetch", "mosei", "--yes"]) == 2
    assert "one of mosi, meld" in capsys.readouterr().err


def test_rows_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    write_files(tmp_path, mosi_files())
    assert detect(tmp_path).name == "public-mosi"
    (tmp_path / "text_test.csv").write_text("8\n9\n10\n12\n")
    with pytest.raises(Refusal, match=r"rows of transcripts\.csv, 0 to 11"):
        read_raw(detect(tmp_path), tmp_path, None, {})
    (tmp_path / "text_test.csv").write_text("6\n0\n2\n5\n")
    with pytest.raises(Refusal, match=r"the labels of the rows of transcripts\.csv in the last column"):
        read_raw(detect(tmp_path), tmp_path, None, {})
