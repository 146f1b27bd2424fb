"""Entries of the public archives, EMDB and PDB, through a cache on disk (pooch).

Where they come from is a setting: each function takes the base address, the environment variables
CRYONB_EMDB_URL, CRYONB_EMDB_API_URL and CRYONB_PDB_URL change the default. CRYONB_CACHE names
another folder for the cache.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryonb.errors import ArchiveError

__all__ = ["ADDRESSES", "Entry", "base_address", "fetch_entry", "fetch_map", "fetch_model"]

#: Environment variable and default of each base address.
ADDRESSES = {
    "emdb": ("CRYONB_EMDB_URL", "https://ftp.ebi.ac.uk/pub/databases/emdb/structures"),
    "emdb_api": ("CRYONB_EMDB_API_URL", "https://www.ebi.ac.uk/emdb/api/entry"),
    "emdb_search": ("CRYONB_EMDB_SEARCH_URL", "https://www.ebi.ac.uk/emdb/api/search"),
    "pdb": ("CRYONB_PDB_URL", "https://files.rcsb.org/download"),
}
_TIMEOUT = 30.0
_CHUNK = 1 << 18
# Seconds before the second try; doubled with every further one.
_PAUSE = 1.0


@dataclass(frozen=True)
class Entry:
    """An entry of the EMDB and its files in the cache.

    Attributes
    ----------
    emdb_id : str
        Such as "EMD-30342".
    title : str
        Title of the deposition ("" if there is none).
    resolution : float or None
        In Å, as the authors report it.
    contour : float or None
        Level that the authors recommend, in the map's own units.
    pdb_ids : tuple of str
        Models fitted to the map, such as "7CEC".
    map_path : pathlib.Path
        The map.
    model_path : pathlib.Path or None
        The first fitted model.
    """

    emdb_id: str
    title: str
    resolution: float | None
    contour: float | None
    pdb_ids: tuple[str, ...]
    map_path: Path
    model_path: Path | None


def fetch_map(
    entry, *, url: str | None = None, cache=None, progress: bool = True, retries: int = 4
) -> Path:
    """Fetch the map of an EMDB entry into the cache, unless it is there already.

    Parameters
    ----------
    entry : str or int
        "EMD-30342", "emd_30342" or "30342".
    url : str, optional
        Base address that holds the folders of the entries. Default: CRYONB_EMDB_URL, or the
        archive at EMBL-EBI.
    cache : path-like, optional
        Folder of the cache. Default: CRYONB_CACHE, or the user's cache folder.
    progress : bool
        Whether to show a progress bar.
    retries : int
        How often to try again after a broken connection; what has arrived is kept, if the server
        can go on from there.

    Returns
    -------
    pathlib.Path
        A gzipped map.

    Raises
    ------
    ArchiveError
        If the name is not one of an entry, there is no such entry, or the transfer fails. No half
        file stays in the cache.
    """
    number = _emdb_number(entry)
    address = f"{base_address('emdb', url)}/EMD-{number}/map/emd_{number}.map.gz"
    name = f"emdb/emd_{number}.map.gz"
    return _fetch(name, address, f"EMD-{number}", _check_gzip, cache, progress, retries)


def fetch_model(
    entry, *, url: str | None = None, cache=None, progress: bool = True, retries: int = 4
) -> Path:
    """Fetch the model of a PDB entry (mmCIF) into the cache, unless it is there already.

    Parameters
    ----------
    entry : str
        "7CEC", or an extended identifier such as "pdb_00007cec".
    url : str, optional
        Base address that holds files like 7cec.cif.gz. Default: CRYONB_PDB_URL, or the archive at
        RCSB.
    cache, progress, retries
        As for `fetch_map`.

    Returns
    -------
    pathlib.Path
        A gzipped mmCIF file.

    Raises
    ------
    ArchiveError
        As for `fetch_map`.
    """
    code = _pdb_code(entry)
    address = f"{base_address('pdb', url)}/{code}.cif.gz"
    label = f"the PDB entry {code.upper() if len(code) == 4 else code}"
    return _fetch(f"pdb/{code}.cif.gz", address, label, _check_gzip, cache, progress, retries)


def fetch_entry(
    entry,
    *,
    model: bool = True,
    emdb_url: str | None = None,
    emdb_api_url: str | None = None,
    pdb_url: str | None = None,
    cache=None,
    progress: bool = True,
    retries: int = 4,
) -> Entry:
    """Fetch an EMDB entry: its map, what is known about it, and the first model fitted to it.

    Parameters
    ----------
    entry : str or int
        As for `fetch_map`.
    model : bool
        Whether to fetch the model, if there is one.
    emdb_url, emdb_api_url, pdb_url : str, optional
        Base addresses of maps, of metadata (JSON) and of models.
    cache, progress, retries
        As for `fetch_map`.

    Returns
    -------
    Entry

    Raises
    ------
    ArchiveError
        As for `fetch_map`.
    """
    number = _emdb_number(entry)
    options = {"cache": cache, "progress": progress, "retries": retries}
    path = _fetch(
        f"emdb/EMD-{number}.json",
        f"{base_address('emdb_api', emdb_api_url)}/EMD-{number}",
        f"EMD-{number}",
        _check_json,
        cache,
        False,
        retries,
    )
    facts = _facts(json.loads(path.read_bytes()))
    map_path = fetch_map(number, url=emdb_url, **options)
    model_path = None
    if model and facts["pdb_ids"]:
        model_path = fetch_model(facts["pdb_ids"][0], url=pdb_url, **options)
    return Entry(f"EMD-{number}", map_path=map_path, model_path=model_path, **facts)


# ---- names and addresses -----------------------------------------------------------------------


def _emdb_number(entry) -> str:
    match = re.fullmatch(r"(?:EMD[-_ ]?)?(\d{4,6})", str(entry).strip(), re.IGNORECASE)
    if not match:
        raise ArchiveError(
            f'The name of an EMDB entry such as "EMD-30342" was expected, but {entry!r} was given.'
        )
    return match[1]


def _pdb_code(entry) -> str:
    text = str(entry).strip().lower()
    # Extended identifiers that begin with zeros are the old ones, under which the files lie.
    match = re.fullmatch(r"(?:pdb_0000)?([1-9][a-z0-9]{3})|(pdb_[a-z0-9]{8})", text)
    if not match:
        raise ArchiveError(
            f'The name of a PDB entry such as "7CEC" or "pdb_00007cec" was expected, '
            f"but {entry!r} was given."
        )
    return match[1] or match[2]


def base_address(kind: str, url: str | None) -> str:
    """Give an address of `ADDRESSES`: as asked, or by the environment, or the default."""
    variable, default = ADDRESSES[kind]
    url = url or os.environ.get(variable) or default
    if not url.startswith(("http://", "https://")):
        raise ArchiveError(
            f"An address that begins with https:// or http:// was expected for {variable}, "
            f"but it is {url!r}."
        )
    return url.rstrip("/")


def _facts(data: dict) -> dict:
    """Pick title, resolution, contour and fitted models from an entry's metadata."""
    contours = _items(data, "map", "contour_list", "contour")
    # The primary contour first; the others are of half maps or other programs.
    contours.sort(key=lambda item: not item.get("primary"))
    levels = [_number(item.get("level")) for item in contours]
    resolutions = [
        _number(reconstruction.get("resolution"))
        for experiment in _items(data, "structure_determination_list", "structure_determination")
        for processing in _items(experiment, "image_processing")
        for reconstruction in _items(processing, "final_reconstruction")
    ]
    models = [
        str(item.get("pdb_id", "")).upper()
        for item in _items(data, "crossreferences", "pdb_list", "pdb_reference")
    ]
    titles = [item.get("title") for item in _items(data, "admin")]
    return {
        "title": next((str(title) for title in titles if title), ""),
        "resolution": next((value for value in resolutions if value is not None), None),
        "contour": next((value for value in levels if value is not None), None),
        "pdb_ids": tuple(name for name in models if name),
    }


def _items(data, *keys: str) -> list[dict]:
    """Follow keys down to a new list of objects; a single object counts as a list of one."""
    for key in keys:
        data = data.get(key) if isinstance(data, dict) else None
    found = data if isinstance(data, list) else [data]
    return [item for item in found if isinstance(item, dict)]


def _number(value) -> float | None:
    # The archive wraps numbers with units: {"valueOf_": "3.9", "units": "Å"}.
    if isinstance(value, dict):
        value = value.get("valueOf_")
    try:
        return float(value)
    except (TypeError, ValueError):
        return None


# ---- transfer ------------------------------------------------------------------------------------


def _fetch(name, address, label, check, cache, progress, retries) -> Path:
    """Give the path of a file in the cache, after fetching it if need be."""
    import pooch

    folder = Path(cache or os.environ.get("CRYONB_CACHE") or pooch.os_cache("cryonb"))
    store = pooch.create(folder, base_url="", registry={name: None}, urls={name: address})
    # pooch writes beside the place, and moves the file there once the downloader has returned.
    return Path(store.fetch(name, downloader=_Transfer(label, check, progress, retries)))


class _Transfer:
    """A downloader for pooch that goes on after a break and checks what has arrived."""

    def __init__(self, label: str, check: Callable, progress: bool, retries: int):
        self.label, self.check = label, check
        self.progress, self.retries = progress, retries

    def __call__(self, url, output_file, _pooch) -> None:
        import requests
        from tqdm.auto import tqdm

        path = Path(output_file)
        reason = ""
        with (
            requests.Session() as session,
            path.open("wb") as target,
            tqdm(
                desc=self.label,
                unit="B",
                unit_scale=True,
                disable=not self.progress,
            ) as bar,
        ):
            state = {"tag": None}
            for attempt in range(self.retries + 1):
                if attempt:
                    time.sleep(_PAUSE * 2 ** (attempt - 1))
                try:
                    self._receive(session, url, target, bar, state)
                except (requests.RequestException, ConnectionError) as error:
                    reason = _reason(error)
                    continue
                break
            else:
                raise ArchiveError(
                    f"{self.label} was to be fetched from {url}, but after "
                    f"{self.retries + 1} tries: {reason}; try again later, or set another address."
                )
        try:
            self.check(path)
        except (OSError, EOFError, zlib.error, ValueError) as error:
            raise ArchiveError(
                f"{self.label} was to be fetched from {url}, but what came is not the file that "
                f"was expected ({error}); nothing was kept."
            ) from error

    def _receive(self, session, url, target, bar, state) -> None:
        """Receive the file, or the rest of it. Raises ConnectionError if it is not complete."""
        done = target.tell()
        headers = {"Accept-Encoding": "identity"}
        if done and state["tag"]:
            headers |= {"Range": f"bytes={done}-", "If-Range": state["tag"]}
        with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT) as response:
            if response.status_code in (404, 410):
                raise ArchiveError(
                    f"{self.label} was looked for at {url}, but there is no such entry; "
                    f"check the name."
                )
            if 400 <= response.status_code < 500 and response.status_code not in (408, 429):
                raise ArchiveError(
                    f"{self.label} was to be fetched from {url}, but the server refused "
                    f"(status {response.status_code})."
                )
            response.raise_for_status()
            if response.status_code != 206:
                # A new file, or a server that cannot go on from the middle.
                done = 0
                target.seek(0)
                target.truncate()
                state["tag"] = response.headers.get("ETag") or response.headers.get("Last-Modified")
            length = response.headers.get("Content-Length")
            total = done + int(length) if length else None
            bar.reset(total)
            bar.update(done)
            for chunk in response.iter_content(_CHUNK):
                target.write(chunk)
                bar.update(len(chunk))
            if total is not None and target.tell() != total:
                raise ConnectionError(f"{target.tell()} of {total} bytes came")


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _check_gzip(path: Path) -> None:
    """Unpack without keeping anything: the checksum at the end tells whether all is there."""
    with gzip.open(path) as stream:
        while stream.read(1 << 22):
            pass


def _check_json(path: Path) -> None:
    if not isinstance(json.loads(path.read_bytes()), dict):
        raise ValueError("not a JSON object")
