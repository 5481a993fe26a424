"""``.npy``, ``.npz`` or HDF5 file of one utterance → shape, and features. The files are not trusted.

No pickle is loaded. The shape in a header is compared with the size of the file before memory is allocated. In an HDF5
file, only arrays in the file itself are read, and a separate process opens it first, because a damaged file can crash
HDF5.
"""

import io
import threading
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
import numpy.typing as npt

from featcache.cache.apart import read_apart
from featcache.errors import AudioError, in_one_line, listed
from featcache.features import Features
from featcache.files.regular import open_regular, resolved
from featcache.machine import available_memory
from featcache.units import format_bytes

HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")
SUFFIXES = (".npy", ".npz", *HDF5_SUFFIXES)
# Largest ratio of an array's size in memory to its size in the file, and the size up to which it is not checked.
MOST_EXPANSION, SMALL = 200, 16 * 2**20
# Largest number of arrays and groups in an HDF5 file, and largest depth of nested groups.
MOST_OBJECTS, DEEPEST = 1000, 8
# Number of bytes that are read for the header of an array.
_HEADER_BYTES = 2**16
# numpy parses headers with ast, which has raised SystemError in Python 3.11 when several threads used it at once.
_parsing = threading.Lock()
# Filters that come with HDF5 and h5py: deflate, shuffle, Fletcher 32, szip, n-bit, scale-offset, LZF.
_FILTERS = {1, 2, 3, 4, 5, 6, 32000}


@dataclass(frozen=True, kw_only=True)
class ArrayHeader:
    """Array that a file declares.

    Attributes:
        name: Name of the array in the file.
        shape: Its shape.
        nbytes: Its size in memory, in bytes.
    """

    name: str
    shape: tuple[int, ...]
    nbytes: int


def read_headers(paths: Sequence[Path], folder: Path, array: str | None = None) -> dict[Path, ArrayHeader | str]:
    """Return path → the array that it declares, or the reason why it cannot be imported.

    Args:
        paths: The files.
        folder: Folder that must contain the files, after links are resolved.
        array: Name of the array, for files that contain several.
    """
    inside = {path for path in paths if resolved(path).is_relative_to(resolved(folder))}
    of_hdf5 = [path for path in paths if path in inside and path.suffix.lower() in HDF5_SUFFIXES]
    survived = dict(zip(of_hdf5, read_apart(describe_hdf5, of_hdf5), strict=True))
    found: dict[Path, ArrayHeader | str] = {}
    for path in paths:
        if path not in inside:
            found[path] = f"it is a link to {resolved(path)}, outside {folder}; copy the file into the folder"
        elif path in survived and survived[path] is None:
            found[path] = "HDF5 crashes when it reads the file"
        else:
            try:
                found[path] = _header(path, array)
            except AudioError as error:
                found[path] = str(error)
    return found


def read_features(path: Path, array: str | None = None) -> Features:
    """Read features as (num_layers, num_frames, hidden_size) float32; missing first axes are added.

    Args:
        path: The file.
        array: Name of the array, for files that contain several.

    Raises:
        AudioError: the file cannot be read, or does not contain such an array.
    """
    header = _header(path, array)
    needed, available = 3 * header.nbytes, available_memory()
    if needed > available:
        raise AudioError(
            f"reading {header.shape} needs {format_bytes(needed)} of memory; {format_bytes(available)} are available"
        )
    with _told(path), open_regular(path) as file:
        if path.suffix.lower() == ".npy":
            values = _read_npy(file, header)
        elif path.suffix.lower() == ".npz":
            with zipfile.ZipFile(file) as archive, archive.open(f"{header.name}.npy") as member:
                values = _read_npy(member, header)
        else:
            with h5py.File(file, "r") as stored:
                values = stored[header.name][()]
    with np.errstate(over="ignore"):  # Overflows are reported below.
        features = np.ascontiguousarray(values, dtype=np.float32)
    if not np.isfinite(features).all():
        large = np.isfinite(values).all()
        raise AudioError("it contains values too large for float32" if large else "it contains NaN or infinite values")
    return features.reshape((1,) * (3 - features.ndim) + features.shape)


def describe_hdf5(path: Path) -> list[str]:
    """Return the names of the arrays in an HDF5 file; this is called in a separate process first."""
    try:
        with open_regular(path) as file, h5py.File(file, "r") as stored:
            arrays = _arrays_of(stored)
            for one in arrays:
                if isinstance(one, h5py.Dataset) and one.nbytes < SMALL:
                    one[()]
            return [str(one.name) for one in arrays]
    except (AudioError, OSError, RuntimeError, ValueError, TypeError, KeyError, MemoryError):
        return []


def _header(path: Path, array: str | None) -> ArrayHeader:
    with _told(path), open_regular(path) as file:
        size = file.seek(0, 2)
        file.seek(0)
        if path.suffix.lower() == ".npy":
            header, start = _npy_header(file, "")
            if start + header.nbytes != size:
                raise AudioError(
                    f"it has {size} bytes, but its header declares {header.shape}, which takes {start + header.nbytes}"
                )
        elif path.suffix.lower() == ".npz":
            header = _npz_header(file, array)
        else:
            header = _hdf5_header(file, array)
    if header.nbytes > max(SMALL, MOST_EXPANSION * size):
        raise AudioError(
            f"it declares {header.shape}, {format_bytes(header.nbytes)}, in a file of {format_bytes(size)}"
        )
    return header


def _npy_header(file: IO[bytes], name: str) -> tuple[ArrayHeader, int]:
    """Return the array that a header declares, and the position of its first value."""
    shape, _, dtype, start = _parsed(file)
    return _checked(name, shape, dtype), start


def _parsed(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Return shape, Fortran order, dtype, and the position of the first value."""
    head = io.BytesIO(file.read(_HEADER_BYTES))
    version = np.lib.format.read_magic(head)
    if version not in ((1, 0), (2, 0)):
        raise AudioError(f"it has .npy version {version}, expected 1.0 or 2.0")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    with _parsing:
        shape, fortran, dtype = read(head)
    return shape, fortran, dtype, head.tell()


def _read_npy(file: IO[bytes], header: ArrayHeader) -> npt.NDArray[Any]:
    shape, fortran, dtype, start = _parsed(file)
    if _checked(header.name, shape, dtype) != header:
        raise AudioError("it changed while it was read")
    file.seek(start)
    content = file.read(header.nbytes)
    if len(content) != header.nbytes or file.read(1):
        raise AudioError(f"it does not contain the {header.nbytes} bytes that its header declares")
    values = np.frombuffer(content, dtype=dtype)
    return values.reshape(shape[::-1]).T if fortran else values.reshape(shape)


def _npz_header(file: IO[bytes], array: str | None) -> ArrayHeader:
    with zipfile.ZipFile(file) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist() if not info.is_dir()}
        name = _chosen([name for name, info in members.items() if info.filename.endswith(".npy")], array)
        info = members[name]
        if info.flag_bits & 1 or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise AudioError(f"the array {name!r} is encrypted, or compressed by another method than numpy's")
        if info.file_size > max(SMALL, MOST_EXPANSION * info.compress_size):
            raise AudioError(
                f"the array {name!r} expands from {format_bytes(info.compress_size)} to {format_bytes(info.file_size)}"
            )
        with archive.open(info) as member:
            header, start = _npy_header(member, name)
        if start + header.nbytes != info.file_size:
            raise AudioError(
                f"the array {name!r} has {info.file_size} bytes, but its header declares {header.shape}, which takes "
                f"{start + header.nbytes}"
            )
        return header


def _hdf5_header(file: IO[bytes], array: str | None) -> ArrayHeader:
    with h5py.File(file, "r") as stored:
        arrays = {str(one.name).lstrip("/"): one for one in _arrays_of(stored)}
        name = _chosen(list(arrays), None if array is None else array.lstrip("/"))
        dataset = arrays[name]
        header = _checked(name, dataset.shape, dataset.dtype)
        if dataset.chunks is None and dataset.id.get_storage_size() != header.nbytes:
            raise AudioError(f"the array {name!r} declares {header.shape}, but the file does not contain its values")
        return header


def _arrays_of(stored: h5py.File) -> list[h5py.Dataset]:
    """Return the arrays in the file itself; links to other places are refused."""
    found: list[h5py.Dataset] = []
    seen: set[Any] = set()

    def visit(group: h5py.Group, depth: int) -> None:
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise AudioError(f"{name!r} is an HDF5 link, expected the array itself")
            one = group[name]
            place = h5py.h5o.get_info(one.id).addr
            if place in seen:
                continue
            seen.add(place)
            if len(seen) > MOST_OBJECTS or depth > DEEPEST:
                raise AudioError(f"it has more than {MOST_OBJECTS} arrays and groups, or more than {DEEPEST} levels")
            if isinstance(one, h5py.Group):
                visit(one, depth + 1)
            elif isinstance(one, h5py.Dataset):
                _refuse_elsewhere(one)
                found.append(one)

    visit(stored, 1)
    return found


def _refuse_elsewhere(dataset: h5py.Dataset) -> None:
    if dataset.is_virtual or dataset.external:
        raise AudioError(f"the array {dataset.name!r} lies in other files, expected it in this file")
    layout = dataset.id.get_create_plist()
    filters = {int(layout.get_filter(number)[0]) for number in range(layout.get_nfilters())}
    if filters - _FILTERS:
        raise AudioError(f"the array {dataset.name!r} needs a filter that does not come with HDF5; write it with gzip")


def _chosen(names: Sequence[str], array: str | None) -> str:
    if array is not None and array not in names:
        raise AudioError(f"it contains no array {array!r}; arrays: {listed(names) or 'none'}")
    if array is None and len(names) != 1:
        told = f"{len(names)} arrays ({listed(names)}); choose one with --array" if names else "no array"
        raise AudioError(f"it contains {told}")
    return names[0] if array is None else array


def _checked(name: str, shape: Sequence[int] | None, dtype: np.dtype[Any]) -> ArrayHeader:
    if dtype.hasobject or dtype.kind not in "fiu" or dtype.shape or shape is None:
        raise AudioError(f"its dtype is {dtype!s:.60}, expected real numbers, such as float32")
    if not 1 <= len(shape) <= 3:
        raise AudioError(
            f"its shape is {tuple(shape)}, expected (num_layers, num_frames, hidden_size) or (num_frames, hidden_size)"
        )
    sizes = tuple(int(size) for size in shape)
    if min(sizes) <= 0:
        raise AudioError(f"its shape is {sizes}: it contains no values")
    number = 1
    for size in sizes:
        number *= size  # Python integers do not overflow.
    return ArrayHeader(name=name, shape=sizes, nbytes=number * dtype.itemsize)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Turn every exception of a file's reader into an AudioError of one line."""
    try:
        yield
    except AudioError:
        raise
    except OSError as error:
        raise AudioError(f"it cannot be read ({error.strerror or ' '.join(str(error).split())})") from error
    except Exception as error:  # numpy, zipfile and h5py raise any exception for damaged files.
        told = in_one_line(error)
        raise AudioError(f"it cannot be read as a {path.suffix.lower()} file ({told:.200})") from error
