"""The store: parts of a data set as Zarr groups, with checksums and digests (docs/formats.md); it knows no physics."""

from resim.store.dataset import (
    Dataset,
    Manifest,
    PartEntry,
    check_extension,
    dataset_digest,
    extend_manifest,
    open_dataset,
    read_manifest,
    write_manifest,
)
from resim.store.digests import digest_checkpoint
from resim.store.part import Part, StoredView, open_part, part_digests, part_name, refuse_in_part
from resim.store.places import Place, place_of
from resim.store.summary import format_summary, summary
from resim.store.tables import EXTRAS, FORMAT, VERSION, Checkpoint, Column, Extra, ObjectTable, Schema, ViewTable, join
from resim.store.validation import Problem, validate, validate_part
from resim.store.writing import remove_leftovers, write_part

__all__ = [
    "EXTRAS",
    "FORMAT",
    "VERSION",
    "Checkpoint",
    "Column",
    "Dataset",
    "Extra",
    "Manifest",
    "ObjectTable",
    "Part",
    "PartEntry",
    "Place",
    "Problem",
    "Schema",
    "StoredView",
    "ViewTable",
    "check_extension",
    "dataset_digest",
    "digest_checkpoint",
    "extend_manifest",
    "format_summary",
    "join",
    "open_dataset",
    "open_part",
    "part_digests",
    "part_name",
    "place_of",
    "read_manifest",
    "refuse_in_part",
    "remove_leftovers",
    "summary",
    "validate",
    "validate_part",
    "write_manifest",
    "write_part",
]
