"""Which datasets have live rows in them, so that retention and deletion reach them.

Each is noted in the object store, beside the datasets, under `collected/<project>/`.
"""

from collections.abc import Sequence

import msgspec

from timonel.stores.objects import ObjectStore

__all__ = ["Collection", "forget_collection", "note_collection", "noted_collections"]


class Collection(msgspec.Struct, frozen=True):
    """A dataset at `key` with rows of predictions whose ids lie in `first`..`last`.

    `run` is the run that it was made for, if any.
    """

    key: str
    first: str
    last: str
    run: str | None = None


def note_collection(objects: ObjectStore, project: str, collection: Collection) -> None:
    """Remember a dataset; the same one again replaces what was noted."""
    objects.write(_place(project, collection.key), msgspec.json.encode(collection))


def noted_collections(objects: ObjectStore, project: str) -> Sequence[Collection]:
    """Those of a project, in no order.

    Raises:
        StoreError: the store does not answer.
    """
    places = objects.list(f"collected/{project}/")
    return [msgspec.json.decode(objects.get(place), type=Collection) for place in places]


def forget_collection(objects: ObjectStore, project: str, key: str) -> None:
    """Forget a dataset that is gone; one that is not noted is no error."""
    objects.delete(_place(project, key))


def _place(project: str, key: str) -> str:
    return f"collected/{project}/{key.rsplit('/', 1)[-1]}.json"
