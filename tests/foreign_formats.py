"""Other programs' writers and readers of token shards, after the descriptions of their formats.

`write_like_authors` and `AuthorsReader` follow the builder and the loader of the MiniPLM authors,
`MegatronReader` and `gpt_samples` Megatron-LM's IndexedDataset and GPTDataset. They share nothing
with ours.
"""

import struct

import numpy as np


def write_like_authors(folder, rows, *, per_shard, dtype="<i4"):
    """`data_N.bin` and `.idx`, no sidecar; the document index stays at [0]."""
    folder.mkdir(parents=True, exist_ok=True)
    code = {"<i4": 4, "<u2": 8}[dtype]
    for number, begin in enumerate(range(0, len(rows), per_shard)):
        part = [np.array(row, dtype=dtype) for row in rows[begin : begin + per_shard]]
        (folder / f"data_{number}.bin").write_bytes(b"".join(row.tobytes() for row in part))
        address, pointers = 0, []
        for row in part:
            pointers.append(address)
            address += row.nbytes
        index = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, code, len(part), 1)
        index += np.array([len(row) for row in part], "<i4").tobytes()
        index += np.array(pointers, "<i8").tobytes() + struct.pack("<q", 0)
        (folder / f"data_{number}.idx").write_bytes(index)
    return folder


class _Index:
    def __init__(self, path):
        data = path.read_bytes()
        assert data[:9] == b"MMIDIDX\x00\x00"
        version, code, rows, documents = struct.unpack_from("<QBQQ", data, 9)
        assert version == 1
        self.dtype = {4: "<i4", 8: "<u2"}[code]
        self.sizes = np.frombuffer(data, "<i4", rows, 34)
        self.pointers = np.frombuffer(data, "<i8", rows, 34 + 4 * rows)
        self.documents = np.frombuffer(data, "<i8", documents, 34 + 12 * rows)


class MegatronReader:
    """A prefix: maps `.bin` and goes by the pointers; insists on a whole document index."""

    def __init__(self, prefix):
        self.index = _Index(prefix.with_name(prefix.name + ".idx"))
        self.data = np.memmap(prefix.with_name(prefix.name + ".bin"), mode="r")
        assert self.index.documents[-1] == len(self)

    def __len__(self):
        return len(self.index.sizes)

    def __getitem__(self, index):
        begin, size = self.index.pointers[index], self.index.sizes[index]
        return np.frombuffer(self.data, self.index.dtype, size, begin).tolist()


class AuthorsReader:
    """A folder: data_0, data_1, ... as long as they are there, under one running index."""

    def __init__(self, folder):
        self.parts = []
        while (prefix := folder / f"data_{len(self.parts)}").with_suffix(".idx").exists():
            index = _Index(prefix.with_suffix(".idx"))
            self.parts.append((index, np.memmap(prefix.with_suffix(".bin"), mode="r")))

    def rows(self):
        return [
            np.frombuffer(data, index.dtype, size, pointer).tolist()
            for index, data in self.parts
            for size, pointer in zip(index.sizes, index.pointers, strict=True)
        ]


def gpt_samples(reader, length, seed=0):
    """What GPTDataset makes of a prefix: items shuffled, joined, cut every `length` ids."""
    order = np.random.RandomState(seed).permutation(len(reader))
    stream = [token for item in order for token in reader[item]]
    return [stream[i : i + length + 1] for i in range(0, len(stream) - length, length)]
