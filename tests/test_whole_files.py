"""Files are written whole or not at all, whatever ends the writing."""

from __future__ import annotations

from pathlib import Path

import pytest

from mer_lightning.whole_files import whole, write_whole


def test_what_is_written_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "one")
    write_whole(tmp_path / "a", "zwei, größer")
    assert (tmp_path / "a").read_text(encoding="utf-8") == "zwei, größer"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write_whole(tmp_path / "a", "one")

    def write_half() -> None:
        with whole(tmp_path / "a") as temporary:
            temporary.write_text("half of")
            raise OSError("full")

    with pytest.raises(OSError, match="full"):
        write_half()
    assert (tmp_path / "a").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
