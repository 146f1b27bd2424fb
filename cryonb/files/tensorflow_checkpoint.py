"""Read a TensorFlow checkpoint (`<stem>.index`, `<stem>.data-?????-of-?????`) without TensorFlow.

The index is a table of sorted strings in blocks (the format of LevelDB), each value a small
protocol-buffer record that says where in the data files a tensor's raw bytes are.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cryonb.errors import WeightsError

__all__ = ["read_checkpoint"]

_MAGIC = 0xDB4775248B80FB57
_FOOTER = 48
_TYPES = {1: "f4", 2: "f8", 3: "i4", 4: "u1", 6: "i1", 9: "i8", 19: "f2"}


def read_checkpoint(path, *, only=None) -> dict[str, np.ndarray]:
    """Read the tensors of a checkpoint.

    Parameters
    ----------
    path : path
        The checkpoint's stem ("model.ckpt-40000"), or its `.index` file.
    only : callable, optional
        Takes a name; tensors for which it is false are not read.

    Returns
    -------
    dict of ndarray
        By name.

    Raises
    ------
    WeightsError
        If a file lacks, is cut short or is no checkpoint of this format (version 2).
    """
    path = Path(path)
    stem = path.name.removesuffix(".index")
    index = path.with_name(stem + ".index")
    if not index.is_file():
        raise WeightsError(
            f"A TensorFlow checkpoint was expected, but {index.name} does not exist beside "
            f"{path.name}; name the stem that its .index and .data files share."
        )
    try:
        entries = dict(_table(index.read_bytes()))
        header = _record(entries.pop(b""))
        shards = header.get(1, [1])[0]
        if header.get(2, [0])[0] != 0:
            raise WeightsError(f"{index.name} is big-endian, which is not read here.")
        records = {name.decode(): _record(value) for name, value in entries.items()}
    except (IndexError, KeyError, ValueError, UnicodeDecodeError) as error:
        raise WeightsError(
            f"{index.name} is damaged, or no TensorFlow checkpoint of version 2."
        ) from error
    found = {}
    for name, record in records.items():
        if only is None or only(name):
            found[name] = _tensor(path.with_name(stem), name, record, shards)
    return found


def _tensor(stem: Path, name: str, record: dict, shards: int) -> np.ndarray:
    code = record.get(1, [0])[0]
    if code not in _TYPES or 7 in record:
        raise WeightsError(
            f"Tensor {name!r} of {stem.name} is of a kind that is not read here "
            f"(type {code}{', in slices' if 7 in record else ''})."
        )
    dims = [_record(dim).get(1, [0])[0] for dim in _record(record.get(2, [b""])[0]).get(2, [])]
    shard, offset = record.get(3, [0])[0], record.get(4, [0])[0]
    data = stem.with_name(f"{stem.name}.data-{shard:05d}-of-{shards:05d}")
    if not data.is_file():
        raise WeightsError(f"{data.name} was expected beside {stem.name}.index, but is not there.")
    dtype, count = np.dtype("<" + _TYPES[code]), int(np.prod(dims, dtype=np.int64))
    if record.get(5, [0])[0] != count * dtype.itemsize:
        raise WeightsError(f"{stem.name}.index contradicts itself about tensor {name!r}.")
    if offset + count * dtype.itemsize > data.stat().st_size:
        raise WeightsError(
            f"{data.name} is cut short: tensor {name!r} ends beyond it; copy it again."
        )
    with data.open("rb") as file:
        file.seek(offset)
        return np.fromfile(file, dtype, count).reshape(dims)


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")


def _block(data: bytes, offset: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Give the entries of one block; each key is stored as what differs from the one before."""
    if offset + size + 1 > len(data):
        raise ValueError("a block beyond the end")
    if data[offset + size] != 0:
        raise WeightsError(
            "The checkpoint's index is compressed, which is not read here; save it again with a "
            "TensorFlow of 1.1 or later."
        )
    block = data[offset : offset + size]
    restarts = int.from_bytes(block[-4:], "little")
    end, at, key = size - 4 * (restarts + 1), 0, b""
    while at < end:
        shared, at = _varint(block, at)
        rest, at = _varint(block, at)
        length, at = _varint(block, at)
        key = key[:shared] + block[at : at + rest]
        at += rest
        yield key, block[at : at + length]
        at += length


def _table(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Give all entries of a table of sorted strings."""
    if len(data) < _FOOTER or int.from_bytes(data[-8:], "little") != _MAGIC:
        raise ValueError("no table")
    footer = data[-_FOOTER:]
    _, at = _varint(footer, 0)  # where the (empty) meta index is, and how long
    _, at = _varint(footer, at)
    offset, at = _varint(footer, at)
    size, at = _varint(footer, at)
    for _, handle in _block(data, offset, size):
        start, at = _varint(handle, 0)
        length, _ = _varint(handle, at)
        yield from _block(data, start, length)


def _record(data: bytes) -> dict[int, list]:
    """Give the fields of a protocol-buffer record by number: integers, or bytes."""
    fields: dict[int, list] = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
        elif kind == 2:
            length, at = _varint(data, at)
            value, at = data[at : at + length], at + length
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
            value, at = int.from_bytes(data[at : at + length], "little"), at + length
        else:
            raise ValueError(f"a field of kind {kind}")
        fields.setdefault(number, []).append(value)
    return fields
