"""Addresses at which no cluster answers are refused within seconds, and say what was tried."""

import socket
import threading
import time
from pathlib import Path

import pytest

from levelset._tools.engines import _addresses
from levelset._tools.engines._addresses import address_to_join, check_answer
from levelset.errors import RunError


def test_an_address_without_a_cluster_is_refused_within_seconds() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_addresses, "_ANSWER", 0.1)
            with pytest.raises(
                RunError, match=rf"no Ray cluster answers at ray://127.0.0.1:{port}"
            ):
                check_answer("audit", f"ray://127.0.0.1:{port}")
    begun = time.monotonic()
    with pytest.raises(
        RunError, match=rf"connecting to 127.0.0.1 port {port} for 4 s: .*refused. Check the"
    ):
        check_answer("audit", f"127.0.0.1:{port}")
    assert time.monotonic() - begun < 10.0


def test_what_answers_in_another_language_is_no_cluster() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            line, _ = server.accept()
            with line:
                line.recv(100)
                line.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(RunError, match="it does not speak Ray's language"):
            check_answer("audit", address)
        thread.join()


def test_auto_is_the_cluster_of_the_environment_or_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    assert address_to_join("audit", None) is None
    assert address_to_join("audit", "auto") == "auto"  # Ray looks for processes
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    file = tmp_path / "ray" / "ray_current_cluster"
    file.parent.mkdir()
    file.write_text(f"127.0.0.1:{port}\n")
    assert address_to_join("audit", None) == "local"  # the last cluster is dead
    begun = time.monotonic()
    with pytest.raises(RunError, match=rf"at 127.0.0.1:{port}, which {file} names, and RAY_ADD"):
        address_to_join("audit", "auto")
    monkeypatch.setenv("RAY_ADDRESS", f"ray://localhost:{port}")
    for address in (None, "auto"):
        with pytest.raises(RunError, match=rf"ray://localhost:{port}, which RAY_ADDRESS names"):
            address_to_join("audit", address)
    assert time.monotonic() - begun < 10.0
