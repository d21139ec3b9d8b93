"""A camera that speaks RTSP: H.264 in RTP over the same TCP connection (RFC 2326, section 10.12, and RFC 6184)."""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av

FPS = 25
RTP_CLOCK = 90_000
LARGEST_PACKET = 60_000
"""A NAL unit goes into one packet, which an interleaved channel carries up to 65,535 bytes."""


def encoded(pictures: Path) -> list[list[bytes]]:
    """The clip as H.264: NAL units of each picture. Each picture stands for itself, with its parameter sets."""
    packets: list[bytes] = []
    with av.open(str(pictures)) as clip, av.open(io.BytesIO(), "w", format="h264") as out:
        shown = clip.streams.video[0]
        stream = out.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "tune": "zerolatency", "g": "1"})
        stream.width, stream.height, stream.pix_fmt = shown.width, shown.height, "yuv420p"
        for frame in clip.decode(video=0):
            packets += [bytes(packet) for packet in stream.encode(frame)]
    return [[unit.rstrip(b"\0") for unit in packet.split(b"\0\0\1") if unit.rstrip(b"\0")] for packet in packets]


class RtspCamera:
    """Plays pictures again and again to whoever connects; until `cut`, or for ever."""

    def __init__(self, pictures: list[list[bytes]], port: int = 0) -> None:
        self._pictures = pictures
        self._listening = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listening.getsockname()[1]
        self.address = f"rtsp://127.0.0.1:{self.port}/camera"
        self._connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Drop everybody, and listen no more."""
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection, connection.makefile("rb") as asked:
            while line := asked.readline():
                method = line.split()[0].decode()
                headers = {}
                while (line := asked.readline().strip()) != b"":
                    name, _, value = line.decode().partition(":")
                    headers[name.lower()] = value.strip()
                connection.sendall(self._answer(method, headers["cseq"]))
                if method == "PLAY":
                    return self._play(connection)

    def _answer(self, method: str, cseq: str) -> bytes:
        body = ""
        lines = ["RTSP/1.0 200 OK", f"CSeq: {cseq}"]
        if method == "DESCRIBE":
            body = (
                "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\n"
                f"a=rtpmap:96 H264/{RTP_CLOCK}\r\na=framerate:{FPS}\r\na=control:video\r\n"
            )
            lines += [f"Content-Base: {self.address}/", "Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            lines += ["Transport: RTP/AVP/TCP;unicast;interleaved=0-1", "Session: 1"]
        else:
            lines += ["Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN", "Session: 1"]
        return ("\r\n".join(lines) + "\r\n\r\n" + body).encode()

    def _play(self, connection: socket.socket) -> None:
        number, sequence, began = 0, 0, time.monotonic()
        while True:
            units = self._pictures[number % len(self._pictures)]
            for unit in units:
                assert len(unit) <= LARGEST_PACKET
                marker = 0x80 if unit is units[-1] else 0  # of the last packet of a picture
                stamp = number * RTP_CLOCK // FPS
                packet = struct.pack(">BBHII", 0x80, marker | 96, sequence & 0xFFFF, stamp & 0xFFFFFFFF, 1) + unit
                connection.sendall(b"$\0" + struct.pack(">H", len(packet)) + packet)
                sequence += 1
            number += 1
            time.sleep(max(0.0, began + number / FPS - time.monotonic()))


@contextlib.contextmanager
def rtsp_camera(pictures: list[list[bytes]], port: int = 0) -> Iterator[RtspCamera]:
    """Until the block ends. port: 0: any free one."""
    camera = RtspCamera(pictures, port)
    try:
        yield camera
    finally:
        camera.cut()
