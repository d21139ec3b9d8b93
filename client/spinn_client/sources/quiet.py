"""Silences OpenCV's decoders. This changes the whole process, so it is for applications, not for the library."""

from __future__ import annotations

import os

import cv2


def quiet_decoders() -> None:
    """Keep OpenCV and its camera drivers from writing to standard error. To be called before anything is opened.

    Clips and streams do not need this: PyAV is silent.
    """
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
