"""The parent's side of a worker process: it is started, told what to do, and ended."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from ...common.errors import AbsentArmError, MeasurementError, SelfComparisonError
from ...history.url import PASSWORD_VARIABLE
from ..base_commit.place import Place, this_process
from .protocol import as_line, from_line

END_S = 10.0
"""A worker that was told to end may finish the call that it is in."""
_PACKAGE = Path(__file__).resolve().parents[2]
_OF_AN_INTERPRETER = ("PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__")
TAIL_CHARACTERS = 600
"""Of what a crashed worker printed last, for the message."""


class WorkerProcess:
    """A process that builds arms, one after the other; ``name`` is told where something fails."""

    def __init__(self, name: str, place: Place | None = None) -> None:
        self.place = place = place or this_process()
        self.name = name
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  closed by end()
        self._shim = tempfile.TemporaryDirectory(prefix="diffspeed-worker-")
        self._alive: int | None
        watched, self._alive = os.pipe()  # closed when this process ends, however it does
        # Windows passes no such descriptors on.
        inherits: dict[str, Any] = {"pass_fds": (watched,)} if hasattr(os, "killpg") else {}
        args = [str(watched)] if inherits else []
        try:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                [place.python, str(_script(Path(self._shim.name))), *args],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                cwd=place.folder,
                env=_environment(place),
                start_new_session=True,  # so that what it starts itself can be ended with it
                **inherits,
            )
        except OSError as error:
            os.close(self._alive)
            self._errors.close()
            self._shim.cleanup()
            raise MeasurementError(
                f"worker process of arm {name!r}: {place.python} cannot be started in "
                f"{place.folder} ({error.strerror})"
            ) from None
        finally:
            os.close(watched)
        self._answers: queue.Queue[bytes | None] = queue.Queue()
        reader = threading.Thread(target=self._read, name="diffspeed-worker", daemon=True)
        reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def send(self, content: dict[str, Any]) -> None:
        """Tell it to do something; :meth:`answer` says what came of it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(as_line(content))
            self._process.stdin.flush()
        except (OSError, ValueError):
            pass  # it has ended: the answer that does not come says why

    def answer(self, doing: str, wait_s: float) -> dict[str, Any]:
        """What it answers to the order before.

        Raises:
            MeasurementError: it says that it could not, or it ended, or takes longer than
                ``wait_s``; it is gone then.
            AbsentArmError, SelfComparisonError: see ``Workers.base_and_head``.
        """
        try:
            line = self._answers.get(timeout=wait_s)
        except queue.Empty:
            self._kill()
            raise self.failure(doing, f"no answer within {wait_s:.0f} s") from None
        if line is None:
            self._answers.put(None)  # whoever asks next must not wait for an answer either
            code = self._process.wait()
            how = f"killed by signal {-code}" if code < 0 else f"exit code {code}"
            if code == -9:
                how += ", as when memory runs out"
            raise self.failure(doing, f"it ended ({how})")
        answer = from_line(line)
        if answer is None:
            raise self.failure(doing, f"it answered {line[:80]!r}, which is no JSON object")
        if answer.get("itself") is True:
            raise SelfComparisonError(str(answer.get("error")))
        if "error" in answer:
            error = AbsentArmError if answer.get("absent") is True else MeasurementError
            raise error(f"worker process of arm {self.name!r}: {answer['error']}")
        return answer

    def failure(self, doing: str, what: str) -> MeasurementError:
        """To be raised: ``what`` happened while it was ``doing`` something."""
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(0, self._errors.tell() - TAIL_CHARACTERS))
        last = self._errors.read().decode("utf-8", "replace").strip()
        sentence = f"; the last it printed: {last}" if last else ""
        return MeasurementError(
            f"worker process of arm {self.name!r} (pid {self.pid}), {doing}: {what}{sentence}",
            clause=f"worker process of arm {self.name!r}, {doing}: {what}",
            next_step="see what it printed last, with -v",
        )

    def end(self) -> None:
        """End the process, however busy it is; safe to call twice."""
        process = self._process
        try:
            if process.stdin is not None:
                process.stdin.close()
        except OSError:  # it is gone, and its pipe with it
            pass
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._kill()
            process.wait()
        except BaseException:  # a second Ctrl-C: nobody waits any more, and nothing stays
            self._kill()
            raise
        finally:
            self._let_go()
            self._errors.close()
            self._shim.cleanup()

    def _let_go(self) -> None:
        alive, self._alive = self._alive, None
        if alive is not None:
            os.close(alive)

    def _kill(self) -> None:
        """End the process and what it started, as inductor's compiling processes."""
        if hasattr(os, "killpg"):
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        else:
            self._process.kill()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream:
            for line in stream:
                self._answers.put(line)
        self._answers.put(None)


def _script(folder: Path) -> Path:
    """What a worker's interpreter runs: this very package, and nothing that lies beside it.

    Another environment needs not have it, and one that has another version of it must not use it:
    both arms are measured by the same code.
    """
    (folder / _PACKAGE.name).symlink_to(_PACKAGE, target_is_directory=True)
    script = folder / "diffspeed_worker.py"
    script.write_text(
        # Python puts a script's folder first, unless PYTHONSAFEPATH tells it not to.
        f"import runpy\nimport sys\n\nsys.path.insert(0, {str(folder)!r})\n"
        f"runpy.run_module({__package__!r}, run_name='__main__')\n",
        encoding="utf-8",
    )
    return script


def _environment(place: Place) -> dict[str, str]:
    """That of the worker's place, or this process's, with the place's import path.

    No worker needs the password of the store.
    """
    variables = os.environ if place.variables is None else place.variables
    environment = {**variables, "PYTHONPATH": os.pathsep.join(place.path)}
    environment.pop(PASSWORD_VARIABLE, None)
    if place.python != sys.executable:
        for name in _OF_AN_INTERPRETER:
            environment.pop(name, None)
    return environment
