"""The images of one file, one at a time, under the keys that a store would give them."""

from __future__ import annotations

from collections.abc import Iterator

from scoutview.errors import RunError
from scoutview.images import Image, Modality
from scoutview.ingest.content import content_of
from scoutview.ingest.files import SourceFile, check_place, stamp_of
from scoutview.ingest.pseudonyms import Pseudonyms
from scoutview.ingest.reading import read_source_file
from scoutview.ingest.records import keys_of
from scoutview.ingest.refusals import RefusedError
from scoutview.ingest.rules import STRICT
from scoutview.store.shards import Keys


def stream_images(
    file: SourceFile, modality: Modality | None, pseudonyms: Pseudonyms
) -> Iterator[tuple[Keys, str, Image]]:
    """(keys, index within the file, image) as ingest takes them; images of one value are left out.

    Raises:
        RefusedError: whatever is wrong with the file, also behind its first images, which then do not count.
    """
    taken = 0
    try:
        check_place(file)
        with content_of(file) as path:
            for index, image in read_source_file(file, path, modality, STRICT).images:
                if image.pixels.min() < image.pixels.max():
                    taken += 1
                    yield keys_of(image, index, file, stamp_of(file), pseudonyms), index, image
    except (RefusedError, RunError):  # of a RunError nothing is wrong with the file
        raise
    except MemoryError as error:
        raise RefusedError("killed_the_reader", "not enough memory") from error
    except OSError as error:
        raise RefusedError("unreadable", "the file cannot be read") from error
    except Exception as error:  # one file of millions must not end the others; the type says where to look
        raise RefusedError("decode_error", f"{type(error).__name__} while reading") from error
    if not taken:
        raise RefusedError("constant", "every image has one value")
