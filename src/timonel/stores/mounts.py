"""Which folders are on a network, where SQLite's locks cannot be trusted."""

import re
from pathlib import Path

__all__ = ["MOUNTS", "network_filesystem"]

_NETWORK = frozenset(
    {
        "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "fuse.ceph", "fuse.davfs2",
        "fuse.gcsfuse", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "gfs2",
        "glusterfs", "lustre", "ncpfs", "nfs", "nfs4", "ocfs2", "smb", "smb3", "smbfs",
    }
)  # fmt: skip

MOUNTS = Path("/proc/mounts")
"""The table of mounts that is read unless another is given."""


def network_filesystem(path: Path, mounts: Path | None = None) -> str | None:
    """The kind of network filesystem (`nfs4`, `fuse.sshfs`, …) that `path` is on, or None.

    None as well where there is no table of mounts to read (macOS).
    """
    try:
        table = (mounts or MOUNTS).read_text(errors="surrogateescape")
    except OSError:
        return None
    folders = [path.resolve(), *path.resolve().parents]
    # The deepest mount holds the path; of two on one folder, the later hides the earlier.
    depth, kind = len(folders), ""
    for line in table.splitlines():
        fields = line.split(" ")
        if len(fields) < 3:
            continue
        folder = Path(re.sub(r"\\([0-7]{3})", lambda m: chr(int(m[1], 8)), fields[1]))
        if folder in folders and (here := folders.index(folder)) <= depth:
            depth, kind = here, fields[2]
    return kind if kind in _NETWORK else None
