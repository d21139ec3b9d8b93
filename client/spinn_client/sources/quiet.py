"""Decoders that keep their remarks to themselves. Process-wide: for applications, not for the library."""

from __future__ import annotations

import os

import cv2


def quiet_decoders() -> None:
    """Keep OpenCV and what it reads cameras with from writing to the standard error. Before anything is opened.

    Clips and streams need none of it: PyAV is silent by itself.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
