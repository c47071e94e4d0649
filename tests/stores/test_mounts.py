from pathlib import Path

import pytest

from timonel.stores.mounts import network_filesystem

_TABLE = """\
/dev/vda / ext4 rw 0 0
server:/home /mnt/home nfs4 rw 0 0
/dev/vdb /mnt/home/local xfs rw 0 0
me@host: /mnt/with\\040space fuse.sshfs rw 0 0
/dev/vdc /twice ext4 rw 0 0
//host/share /twice cifs rw 0 0
short
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/var/lib", None),
        ("/mnt/home", "nfs4"),
        ("/mnt/home/me/.timonel", "nfs4"),
        ("/mnt/homework", None),
        ("/mnt/home/local/me", None),
        ("/mnt/with space/a", "fuse.sshfs"),
        ("/twice/a", "cifs"),
    ],
)
def test_the_deepest_and_latest_mount_decides(
    tmp_path: Path, folder: str, kind: str | None
) -> None:
    (tmp_path / "mounts").write_text(_TABLE)
    assert network_filesystem(Path(folder), tmp_path / "mounts") == kind


def test_no_table_of_mounts_refuses_nothing(tmp_path: Path) -> None:
    assert network_filesystem(tmp_path, tmp_path / "none") is None
