"""A web camera of a few lines: Motion JPEG over HTTP, told by the test what to do with each viewer."""

from __future__ import annotations

import contextlib
import http.server
import threading
from collections.abc import Iterator

import numpy as np

from .clips import jpeg


class WebCamera:
    """Each entry of `plans` is what one connection gets, in turn; the last is repeated.

    A plan is made of steps: ("show", count, (width, height)), ("burst", count, size) for all at once, ("stall",)
    until the camera is closed, and ("refuse", status). After its last step the connection is closed.
    """

    def __init__(self, *plans: list[tuple[object, ...]], period_s: float = 0.01) -> None:
        self.visits = 0
        self._closed = threading.Event()
        camera = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def log_message(self, *args: object) -> None: ...

            def do_GET(self) -> None:
                plan = plans[min(camera.visits, len(plans) - 1)]
                camera.visits += 1
                with contextlib.suppress(OSError):
                    self._carry_out(plan)

            def _carry_out(self, plan: list[tuple[object, ...]]) -> None:
                if plan[0][0] == "refuse":
                    self.send_error(int(str(plan[0][1])))
                    return
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                for step in plan:
                    if step[0] == "stall":
                        camera._closed.wait()
                        return
                    _, count, size = step
                    assert isinstance(count, int) and isinstance(size, tuple)
                    picture = jpeg(np.full((size[1], size[0], 3), 90, np.uint8))
                    head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(picture)}\r\n\r\n"
                    part = head.encode() + picture + b"\r\n"
                    if step[0] == "burst":
                        self.wfile.write(part * count)
                        continue
                    for _ in range(count):
                        if camera._closed.wait(period_s):
                            return
                        self.wfile.write(part)

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/x.mjpg"

    def close(self) -> None:
        """Nobody answers at its address any more."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def web_camera(*plans: list[tuple[object, ...]], period_s: float = 0.01) -> Iterator[WebCamera]:
    camera = WebCamera(*plans, period_s=period_s)
    try:
        yield camera
    finally:
        camera.close()
