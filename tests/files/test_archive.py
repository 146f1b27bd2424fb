"""Fetching against a local server, with every way in which a transfer can go wrong."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from cryonb.errors import ArchiveError
from cryonb.files import archive
from cryonb.files.archive import fetch_entry, fetch_map, fetch_model
from cryonb.files.model import read_model
from cryonb.files.mrc import read_map, write_map
from cryonb.grid import Grid
from cryonb.volume import Volume

FACTS = {
    "emdb_id": "EMD-30342",
    "admin": {"title": "Integrin"},
    "crossreferences": {"pdb_list": {"pdb_reference": [{"pdb_id": "7cec"}]}},
    "structure_determination_list": {
        "structure_determination": [
            {
                "image_processing": [
                    {"final_reconstruction": {"resolution": {"valueOf_": "3.9", "units": "Å"}}}
                ]
            }
        ]
    },
    "map": {
        "contour_list": {
            "contour": [{"primary": False, "level": 9.0}, {"primary": True, "level": 0.3}]
        }
    },
}

PDB_LINE = "ATOM      1  CA  ALA A   1      11.104   6.134  -6.504  1.00  0.00           C\nEND\n"


class Server(ThreadingHTTPServer):
    """Serves `files`; `cut` gives for each request of a path how many bytes of it are sent."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cut, self.status, self.requests = {}, {}, {}, []
        self.ranges, self.lengths = True, True

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.0"

    def log_message(self, *_args):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append((self.path, self.headers.get("Range")))
        status = server.status.get(self.path, [])
        if status and (code := status.pop(0)) != 200:
            self.send_error(code)
            return
        if self.path not in server.files:
            self.send_error(404)
            return
        body = server.files[self.path]
        start = 0
        wanted = self.headers.get("Range")
        if wanted and server.ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            self.send_response(206)
        else:
            self.send_response(200)
        body = body[start:]
        if server.lengths:
            self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"one"')
        self.end_headers()
        cut = server.cut.get(self.path, [])
        self.wfile.write(body[: cut.pop(0)] if cut else body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(archive, "_PAUSE", 0.0)
    # A break loses the chunk in hand; small ones show where a transfer goes on.
    monkeypatch.setattr(archive, "_CHUNK", 100)
    # Nothing between this test and its server.
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def volume(rng):
    return Volume(rng.normal(size=(20, 21, 22)), Grid((20, 21, 22), 1.1, (11, -22, 33)))


@pytest.fixture
def stocked(server, volume, tmp_path):
    """A server with one entry: map, metadata and model."""
    path = write_map(volume, tmp_path / "source.map.gz")
    server.files = {
        "/EMD-30342/map/emd_30342.map.gz": path.read_bytes(),
        "/entry/EMD-30342": json.dumps(FACTS).encode(),
        "/pdb/7cec.cif.gz": gzip.compress(_cif().encode()),
    }
    return server


def _cif():
    import gemmi

    return gemmi.read_pdb_string(PDB_LINE).make_mmcif_document().as_string()


MAP = "/EMD-30342/map/emd_30342.map.gz"


def _map(server, folder, **options):
    return fetch_map("EMD-30342", url=server.url, cache=folder, progress=False, **options)


def _leftovers(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_map_arrives_whole_and_is_fetched_once(stocked, volume, tmp_path):
    path = _map(stocked, tmp_path / "cache")
    np.testing.assert_array_equal(read_map(path).values, volume.values)
    assert _map(stocked, tmp_path / "cache") == path
    assert len(stocked.requests) == 1
    assert _leftovers(tmp_path / "cache") == [path]


def test_entry_has_map_model_and_metadata(stocked, tmp_path):
    entry = fetch_entry(
        "emd_30342",
        emdb_url=stocked.url,
        emdb_api_url=stocked.url + "/entry/",
        pdb_url=stocked.url + "/pdb",
        cache=tmp_path / "cache",
        progress=False,
    )
    assert (entry.emdb_id, entry.title) == ("EMD-30342", "Integrin")
    assert (entry.resolution, entry.contour, entry.pdb_ids) == (3.9, 0.3, ("7CEC",))
    assert read_map(entry.map_path).shape == (20, 21, 22)
    assert read_model(entry.model_path)[0].count_atom_sites() == 1


def test_settings_come_from_the_environment(stocked, tmp_path, monkeypatch):
    monkeypatch.setenv("CRYONB_EMDB_URL", stocked.url)
    monkeypatch.setenv("CRYONB_PDB_URL", stocked.url + "/pdb")
    monkeypatch.setenv("CRYONB_CACHE", str(tmp_path / "elsewhere"))
    assert fetch_map(30342, progress=False).parent.parent == tmp_path / "elsewhere"
    assert fetch_model("pdb_00007cec", progress=False).name == "7cec.cif.gz"


@pytest.mark.parametrize("facts", [{}, {"map": {}, "crossreferences": {"pdb_list": None}}])
def test_entry_without_metadata_or_model(stocked, tmp_path, facts):
    stocked.files["/entry/EMD-30342"] = json.dumps(facts).encode()
    entry = fetch_entry(
        "30342",
        emdb_url=stocked.url,
        emdb_api_url=stocked.url + "/entry",
        cache=tmp_path,
        progress=False,
    )
    assert (entry.resolution, entry.contour, entry.pdb_ids, entry.model_path) == (
        None,
        None,
        (),
        None,
    )


def test_broken_transfer_goes_on_where_it_stopped(stocked, volume, tmp_path):
    stocked.cut[MAP] = [1000, 500]
    path = _map(stocked, tmp_path / "cache")
    np.testing.assert_array_equal(read_map(path).values, volume.values)
    assert [wanted for _, wanted in stocked.requests] == [None, "bytes=1000-", "bytes=1500-"]


def test_broken_transfer_starts_again_where_the_server_cannot_go_on(stocked, volume, tmp_path):
    stocked.ranges = False
    stocked.cut[MAP] = [1000]
    path = _map(stocked, tmp_path / "cache")
    np.testing.assert_array_equal(read_map(path).values, volume.values)
    assert len(stocked.requests) == 2


def test_server_trouble_is_tried_again(stocked, tmp_path):
    stocked.status[MAP] = [503, 429]
    _map(stocked, tmp_path / "cache")
    assert len(stocked.requests) == 3


def test_cut_off_for_good_leaves_nothing(stocked, tmp_path):
    stocked.cut[MAP] = [10, 10, 10]
    with pytest.raises(ArchiveError, match="after 3 tries"):
        _map(stocked, tmp_path / "cache", retries=2)
    assert not _leftovers(tmp_path / "cache")


def test_cut_off_without_a_length_is_noticed(stocked, tmp_path):
    # Only the checksum inside the file can tell.
    stocked.lengths = False
    stocked.cut[MAP] = [5000]
    with pytest.raises(ArchiveError, match="not the file that was expected"):
        _map(stocked, tmp_path / "cache")
    assert not _leftovers(tmp_path / "cache")


def test_page_instead_of_a_map_is_noticed(stocked, tmp_path):
    stocked.files[MAP] = b"<html>Please log in</html>"
    with pytest.raises(ArchiveError, match="not the file that was expected"):
        _map(stocked, tmp_path / "cache")
    assert not _leftovers(tmp_path / "cache")


def test_metadata_that_are_not_json(stocked, tmp_path):
    stocked.files["/entry/EMD-30342"] = b"[]"
    with pytest.raises(ArchiveError, match="not a JSON object"):
        fetch_entry(
            30342, emdb_url=stocked.url, emdb_api_url=stocked.url + "/entry", cache=tmp_path
        )
    assert not _leftovers(tmp_path / "cache")


def test_missing_entry_is_not_tried_again(server, tmp_path):
    with pytest.raises(ArchiveError, match=r"EMD-30342 .* there is no such entry"):
        _map(server, tmp_path / "cache")
    assert len(server.requests) == 1
    assert not _leftovers(tmp_path / "cache")


def test_refusal_names_the_status(stocked, tmp_path):
    stocked.status[MAP] = [403]
    with pytest.raises(ArchiveError, match=r"refused \(status 403\)"):
        _map(stocked, tmp_path / "cache")


def test_no_server(tmp_path, monkeypatch):
    monkeypatch.setattr(archive, "_PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # Port 9 (discard) is closed wherever tests run.
    with pytest.raises(ArchiveError, match="after 2 tries"):
        fetch_map(1234, url="http://127.0.0.1:9", cache=tmp_path, progress=False, retries=1)


@pytest.mark.parametrize("name", ["", "EMD-", "EMD-12", "EMD-30342x", "7CEC", "../1234", None])
def test_wrong_emdb_names(name, tmp_path):
    with pytest.raises(ArchiveError, match="EMD-30342"):
        fetch_map(name, url="http://127.0.0.1:9", cache=tmp_path)


@pytest.mark.parametrize("name", ["", "0ABC", "7CE", "7CECX", "pdb_7cec", "7ce/", None])
def test_wrong_pdb_names(name, tmp_path):
    with pytest.raises(ArchiveError, match="7CEC"):
        fetch_model(name, url="http://127.0.0.1:9", cache=tmp_path)


@pytest.mark.parametrize("name", ["EMD-1234", "emd_1234", "EMD 1234", "emd1234", "1234", 1234])
def test_ways_to_write_an_emdb_name(name):
    assert archive._emdb_number(name) == "1234"


def test_ways_to_write_a_pdb_name():
    assert archive._pdb_code("7CEC") == archive._pdb_code("pdb_00007cec") == "7cec"
    assert archive._pdb_code("PDB_1000ABCD") == "pdb_1000abcd"


def test_address_must_be_one(tmp_path):
    with pytest.raises(ArchiveError, match="CRYONB_EMDB_URL"):
        fetch_map(1234, url="ftp.example.org", cache=tmp_path)


def test_default_addresses_are_secure():
    assert all(address.startswith("https://") for _, address in archive.ADDRESSES.values())
