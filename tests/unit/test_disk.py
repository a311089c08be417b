"""Free space."""

import shutil

import pytest

from stoker.supervisor.host.disk import free_bytes


def test_free_bytes_of_a_folder_that_is_not_there_yet(tmp_path):
    there, soon = free_bytes(tmp_path), free_bytes(tmp_path / "home" / "runs")
    assert soon > 0
    assert abs(there - shutil.disk_usage(tmp_path).free) < 1 << 30
    assert abs(there - soon) < 1 << 30


def test_a_file_in_the_way_is_an_error(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NotADirectoryError):
        free_bytes(tmp_path / "file" / "below")
