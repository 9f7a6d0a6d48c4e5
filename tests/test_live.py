"""The weekly look at the real services, against services on this machine."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from fake_source import FakeSource
from killing import Run
from loopback import earthengine
from loopback.gbif import Gbif

from geotree import occurrences

LIVE = Path(__file__).resolve().parents[1] / ".ci/live.py"


class Tokens(BaseHTTPRequestHandler):
    """Where a service account changes its signature for a token."""

    def do_POST(self):
        self.server.asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = json.dumps({"access_token": earthengine.TOKEN,
                             "expires_in": 3600, "token_type": "Bearer"})
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer.encode())

    def log_message(self, *words):
        pass


@pytest.fixture
def gbif():
    with Gbif() as service:
        yield service


@pytest.fixture
def record(gbif, tmp_path):
    """The record that GBIF gives first."""
    client = occurrences.Client(gbif.url)
    taxa = occurrences.match(["Betula pendula"], client=client,
                             cache=tmp_path / "names.jsonl")
    return occurrences.collect(taxa, route="search", limit=1, client=client,
                               folder=tmp_path / "records")


@pytest.fixture
def account():
    """A service account's key, and where it signs in."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    private = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()).decode()
    with HTTPServer(("127.0.0.1", 0), Tokens) as server:
        server.asked = 0
        threading.Thread(target=server.serve_forever, daemon=True).start()
        server.key = {
            "type": "service_account", "private_key": private,
            "client_email": "weekly@loopback.iam.gserviceaccount.com",
            "token_uri": f"http://127.0.0.1:{server.server_port}/token"}
        yield server
        server.shutdown()


def live(**settings):
    """Whether it went well, and all that it told."""
    return Run(f"""
import os, runpy, sys
for name in list(os.environ):
    if name.startswith(("EE_", "GEOTREE_", "GBIF_")):
        del os.environ[name]
os.environ |= {settings}
assert runpy.run_path({str(LIVE)!r})["main"]() == 0
print(sys.stderr.getvalue())
""").end()


def test_without_a_key_one_record_is_asked_for(gbif):
    good, told = live(GEOTREE_GBIF_URL=gbif.url)
    assert good, told
    assert "Betula pendula" in told and "no EE_KEY" in told
    assert len(gbif.calls("/search")) <= 2


def test_with_a_key_one_patch_comes_and_no_secret_is_told(gbif, record,
                                                          account):
    with earthengine.EarthEngine(record, FakeSource()) as engine:
        good, told = live(GEOTREE_GBIF_URL=gbif.url, EE_URL=engine.url,
                          EE_PROJECT_ID="of-the-secrets",
                          EE_KEY=json.dumps(account.key))
        assert good, told
        assert account.asked == 1 and len(engine.queries) <= 4
    middle = FakeSource().fetch(record).reflectance[0, 0, 0, 2, 2]
    assert re.search(r"reflectance \[\[\s*(\d+)", told)[1] == str(middle)
    secrets = account.key["private_key"].splitlines()[1:-1]
    for secret in (*secrets, earthengine.TOKEN, "of-the-secrets"):
        assert secret not in told


def test_a_patch_that_does_not_come_is_an_error(gbif, record, account):
    with earthengine.EarthEngine(record, FakeSource(), quota=0) as engine:
        good, _ = live(GEOTREE_GBIF_URL=gbif.url, EE_URL=engine.url,
                       EE_PROJECT_ID="of-the-secrets",
                       EE_KEY=json.dumps(account.key))
    assert not good
