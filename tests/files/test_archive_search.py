"""The search of the archive, against a local server that answers as the archive does."""

import csv
import io
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import pandas as pd
import pytest

import cryonb as nb
from cryonb import cli
from cryonb.errors import ArchiveError, CryonbError
from cryonb.files import archive_search

ROWS = [
    ("EMD-1", "2.5", "7cec", "One, with a comma"),
    ("EMD-2", "3.0", "", "No model"),
    ("EMD-3", "3.9", "1abc,2def", "Two models"),
    ("EMD-4", "3.95", "9xyz", "Four"),
    ("EMD-5", "4.0", "8xyz", "Five"),
]


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_args):
        pass

    def do_GET(self):
        server = self.server
        parts = urlsplit(self.path)
        asked = {key: values[0] for key, values in parse_qs(parts.query).items()}
        server.asked.append((unquote(parts.path.removeprefix("/search/")), asked))
        if server.failures:
            self.send_error(server.failures.pop(0))
            return
        first = (int(asked["page"]) - 1) * int(asked["rows"])
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(asked["fl"].split(","))
        writer.writerows(ROWS[first : first + int(asked["rows"])])
        body = server.body if server.body is not None else text.getvalue().encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/csv")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(archive_search, "_PAUSE", 0.0)
    monkeypatch.setattr(archive_search, "_PAGE", 2)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked, server.failures, server.body = [], [], None
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    monkeypatch.setenv("CRYONB_EMDB_SEARCH_URL", f"http://127.0.0.1:{server.server_port}/search")
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_all_pages_are_read(server):
    found = nb.find_entries(finest=2.0, coarsest=4.0, query='sample_type:"virus"', progress=False)
    assert found["emdb"].tolist() == ["EMD-1", "EMD-3", "EMD-4", "EMD-5"]
    assert found["pdb"].tolist() == ["7CEC", "1ABC 2DEF", "9XYZ", "8XYZ"]
    assert found["resolution"].tolist() == [2.5, 3.9, 3.95, 4.0]
    assert found["title"][0] == "One, with a comma"
    assert [asked["page"] for _, asked in server.asked] == ["1", "2", "3"]
    assert server.asked[0][0] == (
        'current_status:"REL" AND resolution:[2 TO 4] AND '
        'structure_determination_method:"singleParticle" AND (sample_type:"virus")'
    )


def test_models_methods_and_numbers_are_as_asked(server):
    every = nb.find_entries(with_model=False, method=None, progress=False)
    assert len(every) == len(ROWS)
    assert "structure_determination_method" not in server.asked[0][0]
    server.asked.clear()
    assert nb.find_entries(limit=1, progress=False)["emdb"].tolist() == ["EMD-1"]
    assert len(server.asked) == 1


def test_a_data_set_takes_the_table(server, tmp_path, monkeypatch):
    from cryonb.dataset import build

    path = tmp_path / "entries.csv"
    assert cli.main(["dataset", "find", str(path), "--limit", "3"]) == 0
    cases = build._cases(pd.read_csv(path, dtype={"id": str, "emdb": str}))
    assert [(case["id"], case["emdb"], case["resolution"]) for case in cases] == [
        ("EMD-1", "EMD-1", 2.5), ("EMD-3", "EMD-3", 3.9), ("EMD-4", "EMD-4", 3.95),
    ]  # fmt: skip


def test_a_server_that_stumbles_is_asked_again(server):
    server.failures = [503, 500]
    assert len(nb.find_entries(progress=False)) == 4
    server.failures = [503] * 9
    with pytest.raises(ArchiveError, match="try again later"):
        nb.find_entries(retries=1, progress=False)
    server.failures = [400]
    server.asked.clear()
    with pytest.raises(ArchiveError, match="look at query="):
        nb.find_entries(query="no such:(", progress=False)
    assert len(server.asked) == 1


@pytest.mark.parametrize("body", [b"<html>busy</html>", b"a,b\n1,2\n"])
def test_what_is_no_table_is_refused(server, body):
    server.body = body
    with pytest.raises(ArchiveError, match="A table with emdb_id"):
        nb.find_entries(progress=False)


def test_no_entry_is_an_empty_table(server):
    server.body = b""
    found = nb.find_entries(progress=False)
    assert len(found) == 0
    assert list(found.columns) == ["emdb", "resolution", "pdb", "title"]
    with pytest.raises(CryonbError, match="below the coarsest"):
        nb.find_entries(finest=4, coarsest=3)
