"""Loading and saving models: paths, bytes, data files; what was not edited keeps the bytes of its file.

    model = load("model.onnx")
    save(model, "copy.onnx")                            # the same bytes
    save(model, "large.onnx", external="large.data")    # weights in a file of their own
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from gesher.base.errors import GesherError, ModelError
from gesher.codec.decode import decode
from gesher.codec.encode import Piece
from gesher.codec.external import DataFile, Folder
from gesher.codec.faithful import Merger, Words
from gesher.codec.file import PROTOBUF_LIMIT, Readable, Staged, check_unchanged, open_source, write_file
from gesher.codec.messages import ModelProto
from gesher.codec.wire import Source

from .bridge import from_message, no_collection, to_message
from .graph import Model
from .naming import assign_names, names_as_they_are
from .storages import ExternalStorage
from .tensor import SparseTensor, Tensor


def load(file: Readable, *, folder: str | os.PathLike[str] | None = None) -> Model:
    """Open a model. Weights stay in the file (or its data files) until someone reads them.

    Args:
        file: a path, bytes, or a binary file object. A path that ends in `.onnxtxt` is read as ONNX text.
        folder: where data files lie; by default beside the model file.

    Raises:
        FormatError: the bytes are not a model, with offset and field path.
        ModelError: it is a model, but one that no graph can show.

    >>> from gesher.codec.text import parse_model
    >>> from gesher.codec import encode
    >>> load(encode(parse_model('<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (y) { y = Relu(x) }')))
    Model(model, opsets {'': 17}, 1 nodes)
    """
    source = open_source(file)
    home = Path(folder) if folder is not None else None
    try:
        if source.path is not None and source.path.suffix == ".onnxtxt":
            from gesher.codec.text import parse_model

            model = from_message(parse_model(bytes(source.view)), folder=home or source.path.parent)
            model.path = source.path
            return model
        with no_collection():
            return from_message(_read(source), source, folder=home)
    except GesherError as e:
        raise e.within(source.name) from None


def from_bytes(data: bytes, *, folder: str | os.PathLike[str] | None = None) -> Model:
    """A model from the bytes of a file; `folder` is where its data files lie, if it has any."""
    return load(data, folder=folder)


def to_bytes(model: Model, *, external: bool | None = None) -> bytes:
    """The bytes of the file that `save` would write.

    Args:
        external: False brings what lies in data files into the bytes; None leaves the references as they are.
    """
    if external:
        raise ModelError("bytes alone have no data file beside them", rule="external-data",
                         advice="save to a path, or give external=False")
    return b"".join(pieces_of(model, inline=external is False))


def save(model: Model, file: str | os.PathLike[str] | IO[bytes], *, external: bool | str | None = None,
         threshold: int = 1024, oversize: bool = False) -> None:
    """Write a model, through a new file that takes the old one's place when it is whole.

    What was not edited since loading is written with the very bytes of its file.

    Args:
        file: a path or a binary file object.
        external: None leaves weights where they are (data files are copied along into another folder); True or a name
            puts initializers of at least `threshold` bytes into one data file beside the model; False brings
            everything into the one file.
        oversize: write a single file of 2 GB and more, which Gesher reads, but no reader that is built on protobuf.

    Raises:
        ModelError: the file would be too large for other readers; a data file is missing or refused.
        FormatError: the path cannot be written.
    """
    if not isinstance(file, (str, os.PathLike)):
        if external not in (None, False):
            raise ModelError("a file object has no folder for a data file", rule="external-data",
                             advice="save to a path, or give external=False")
        write_file(file, pieces_of(model, inline=external is False))
        return
    path = Path(file)
    if path.suffix == ".onnxtxt":
        from gesher.codec.text import to_text

        write_file(path, [to_text(to_message(model)).encode("utf-8", "surrogateescape")])
        return
    data = None
    if external:
        data = DataFile(external if isinstance(external, str) else f"{path.name}.data")
    pieces = pieces_of(model, data=data, threshold=threshold, inline=external is False)
    size = sum(map(len, pieces))
    if size > PROTOBUF_LIMIT and not oversize:
        raise ModelError(f"the file would have {size:,} bytes, and readers that are built on protobuf refuse more than "
                         f"{PROTOBUF_LIMIT:,}", rule="file-size", place=path.name,
                         advice=f"put the weights beside it: save(model, {path.name!r}, external=True)")
    beside: list[tuple[str, Iterator[Piece]]] = []
    if data is not None:
        beside = [(data.location, data.pieces())] if len(data) else []
    elif external is None:
        beside = _data_files(model, path)
    _write_together(path, pieces, beside)


def pieces_of(model: Model, *, data: DataFile | None = None, threshold: int = 1024,
              inline: bool = False) -> list[Piece]:
    """The bytes of a model, merged with the files that its parts came from; options as in `to_message`."""
    names, repaired = assign_names(model)
    merger = Merger(_words)
    with no_collection():
        if repaired and data is None:
            # The names of a wrong model are put right when it is edited, but only then.
            untouched = merger.untouched(to_message(model, names=names_as_they_are(model), inline=inline))
            if untouched is not None:
                return [untouched]
        return merger.pieces(to_message(model, names=names, data=data, threshold=threshold, inline=inline))


def _read(source: Source) -> Any:
    return decode(ModelProto, source)


def _words(source: Source) -> Words:
    check_unchanged(source)
    old = _read(source)
    model = from_message(old, source)
    return Words(old, to_message(model, names=names_as_they_are(model)))


def _data_files(model: Model, path: Path) -> list[tuple[str, Iterator[Piece]]]:
    """The data files that a model needs and that are not in the folder of `path` yet."""
    there = Path(os.path.realpath(path.parent))
    wanted: dict[str, Folder] = {}
    for t in tensors_of(model):
        if not isinstance(t.storage, ExternalStorage) or t.storage.data.folder is None:
            continue
        location, folder = t.storage.data.location, t.storage.data.folder
        other = wanted.setdefault(location, folder)
        if other.roots != folder.roots:
            raise ModelError(f"two data files from different folders are both called {location!r}",
                             rule="external-data", advice="put all weights into one file: external='weights.data'")
    return [(location, iter([folder.source(location).view])) for location, folder in wanted.items()
            if folder.roots[0] != there]


def tensors_of(model: Model) -> Iterator[Tensor]:
    """Every tensor of a model: initializers and attributes, nested graphs and functions too."""
    def dense(t: Any) -> Iterator[Tensor]:
        if isinstance(t, Tensor):
            yield t
        elif isinstance(t, SparseTensor):
            yield t.values
            yield t.indices

    for g in model.graphs():
        for v in g.initializers:
            yield from dense(v.constant)
        for n in g.nodes:
            for a in n.attributes.values():
                for x in a.value if isinstance(a.value, tuple) else (a.value,):
                    yield from dense(x)


def _write_together(path: Path, pieces: list[Piece], beside: list[tuple[str, Iterator[Piece]]]) -> None:
    """Write the model and its data files: all are made ready before the first takes its place."""
    staged: list[Staged] = []
    try:
        for location, content in beside:
            target = path.parent / location
            target.parent.mkdir(parents=True, exist_ok=True)
            staged.append(Staged(target))
            staged[-1].write(content)
        staged.append(Staged(path))
        staged[-1].write(pieces)
    except BaseException:
        for s in staged:
            s.discard()
        raise
    # The model comes last, so that it never names data that is not there.
    for s in staged:
        s.replace()
