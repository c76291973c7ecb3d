"""A stored layer as a stream of its uncompressed bytes, both digests checked on the way.

Reading, hashing and inflating happen in a thread of their own (all of it C code that lets go of
the interpreter lock), making files in the caller's, so that two processors are used.
"""

import hashlib
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from runtime.errors import LayerError
from runtime.image.blobs import BlobStore
from runtime.image.compression import PIECE, decompress
from runtime.image.digest import VerifiedReader, hex_of
from runtime.image.model import Descriptor

_AHEAD = 8


@contextmanager
def open_layer(
    blobs: BlobStore, layer: Descriptor, diff_id: str, *, limit: int
) -> Iterator[Iterator[bytes]]:
    """Yield pieces of the uncompressed tar of *layer*.

    The content is right only when the iterator has ended by itself: exhaust it, also past the end
    of the archive, before using what was made of it.

    Raises:
        LayerError: from the iterator; wrong *diff_id*, or more than *limit* bytes.
        ImageError: from the iterator; the blob is damaged.
        NotFoundError: the blob is not stored.
    """
    with blobs.open_file(layer.digest) as file:
        pump = _Pump(VerifiedReader(file, layer.digest, size=layer.size), layer, diff_id, limit)
        pump.thread.start()
        try:
            yield pump.pieces()
        finally:
            pump.stop()


class _Pump:
    def __init__(self, source: VerifiedReader, layer: Descriptor, diff_id: str, limit: int) -> None:
        self._source = source
        self._layer = layer
        self._diff_id = diff_id
        self._limit = limit
        self._queue: queue.Queue[bytes | BaseException] = queue.Queue(_AHEAD)
        self._stopped = threading.Event()
        self.thread = threading.Thread(target=self._run, name="layer", daemon=True)

    def pieces(self) -> Iterator[bytes]:
        while True:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            if not item:
                return
            yield item

    def stop(self) -> None:
        """End the thread, also when it waits for us to take something."""
        self._stopped.set()
        while self.thread.is_alive():
            try:
                self._queue.get_nowait()
            except queue.Empty:
                self.thread.join(0.01)

    def _run(self) -> None:
        try:
            self._pump()
        except BaseException as error:  # raised again in the caller's thread
            self._queue.put(error)

    def _pump(self) -> None:
        stream = decompress(self._source)
        # An uncompressed layer has one digest, and the source checks it.
        plain = self._layer.digest == self._diff_id
        content = hashlib.new(self._diff_id.partition(":")[0])
        total = 0
        while not self._stopped.is_set():
            piece = stream.read(PIECE)
            if not plain:
                content.update(piece)
            total += len(piece)
            if total > self._limit:
                raise LayerError(f"{self._layer.digest}: unpacks to more than {self._limit} bytes")
            if not piece:
                # Whatever follows a compressed stream belongs to the blob too.
                while self._source.read(PIECE):
                    pass
                if not plain and content.hexdigest() != hex_of(self._diff_id):
                    raise LayerError(
                        f"{self._layer.digest}: unpacks to sha256:{content.hexdigest()}"
                        f" instead of {self._diff_id}"
                    )
            self._queue.put(piece)
            if not piece:
                return
