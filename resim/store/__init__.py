"""The store: parts of a data set as Zarr groups, with checksums and digests (docs/formats.md); it knows no physics."""

from resim.store.part import Part, StoredView, open_part, part_digests, part_name, write_part
from resim.store.tables import FORMAT, VERSION, Column, ObjectTable, Schema, ViewTable

__all__ = [
    "FORMAT",
    "VERSION",
    "Column",
    "ObjectTable",
    "Part",
    "Schema",
    "StoredView",
    "ViewTable",
    "open_part",
    "part_digests",
    "part_name",
    "write_part",
]
