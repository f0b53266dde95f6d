"""A private PostgreSQL server from the binaries of this machine: a loopback port and a socket."""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

PASSWORD = "s3cret/@:%"
"""Needs each of the escapes of a URL."""
USER = "diffspeed"
START_S = 60


def binaries():
    """The folder of ``initdb`` and ``postgres``, or ``None``."""
    folders = []
    if shutil.which("pg_config"):
        told = subprocess.run(
            ["pg_config", "--bindir"], capture_output=True, text=True, check=False
        )
        folders.append(Path(told.stdout.strip()))
    folders += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if shutil.which("initdb"):
        folders.append(Path(shutil.which("initdb")).parent)
    needed = ("initdb", "postgres")
    return next((f for f in folders if all((f / name).is_file() for name in needed)), None)


def _other_user():
    """Words for Popen that leave root, whom PostgreSQL refuses; none for anybody else."""
    if os.name == "nt" or os.geteuid() != 0:
        return {}
    import pwd

    for name in ("postgres", "nobody"):
        try:
            found = pwd.getpwnam(name)
        except KeyError:
            continue
        return {"user": found.pw_uid, "group": found.pw_gid, "extra_groups": []}
    raise AssertionError("this machine knows neither the user postgres nor nobody")


@dataclass(frozen=True)
class Server:
    folder: Path
    port: int

    def url(self, database, *, password=PASSWORD):
        """As ``--diffspeed-store`` takes it; without ``password`` it comes from elsewhere."""
        secret = "" if password is None else f":{quote(password, safe='')}"
        return f"postgresql://{USER}{secret}@127.0.0.1:{self.port}/{database}"

    def socket_url(self, database):
        return f"postgresql://{USER}@/{database}?host={self.folder}&port={self.port}"

    def connect(self, database="postgres"):
        import psycopg

        return psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user=USER,
            password=PASSWORD,
            dbname=database,
            autocommit=True,
            connect_timeout=5,
        )


class RunningServer:
    """A context in which a new server runs; it leaves no process and no folder."""

    def __init__(self, bin_folder):
        self._bin = bin_folder
        self._process = None
        # Not below pytest's folder: another user may not enter it, and a socket's path is short.
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))

    def __enter__(self):
        other = _other_user()
        if other:
            os.chown(self._folder, other["user"], other["group"])
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        secret = self._folder / "password"
        secret.write_text(f"{PASSWORD}\n")
        secret.chmod(0o644)
        data = self._folder / "data"
        words = ["--auth=scram-sha-256", f"--pwfile={secret}", "-U", USER, "-E", "UTF8"]
        made = subprocess.run(
            [self._bin / "initdb", "-D", data, *words, "--locale=C", "--no-sync"],
            capture_output=True,
            text=True,
            check=False,
            cwd=self._folder,
            **other,
        )
        assert made.returncode == 0, made.stdout + made.stderr
        words = ["-D", data, "-k", self._folder, "-p", str(port), "-h", "127.0.0.1"]
        words += ["-c", "fsync=off"]
        with (self._folder / "log").open("w") as log:
            self._process = subprocess.Popen(
                [self._bin / "postgres", *words],
                stdout=log,
                stderr=log,
                cwd=self._folder,
                **other,
            )
        server = Server(self._folder, port)
        self._wait(server)
        return server

    def __exit__(self, *error):
        if self._process is not None:
            # "Immediate": what a checkpoint would write is deleted anyway.
            self._process.send_signal(signal.SIGQUIT)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait(self, server):
        import psycopg

        deadline = time.monotonic() + START_S
        while True:
            try:
                server.connect().close()
                return
            except psycopg.OperationalError:
                log = (self._folder / "log").read_text()
                assert self._process.poll() is None, log
                assert time.monotonic() < deadline, log
                time.sleep(0.1)
