"""Settings of the whole process. Nothing here happens by itself: an application asks for it."""

from __future__ import annotations

import cv2
from threadpoolctl import threadpool_limits

from spinn_stream.runtime.machine.threads import shorten_pauses


def tune_process() -> None:
    """Make this process answer on time. Call it once, when all is imported, at best when the first stream is open.

    It concerns the whole process, so a program with other work of its own decides whether it wants that:

    - OpenCV and the products of numpy use one thread each, as they would take every core from the network;
    - the interpreter changes threads ten times as often (0.5 ms), so that none waits long for another;
    - what is alive now is never again looked through for garbage, which takes 20 to 50 ms each time.

    Without it every promise is kept, but answers are some milliseconds older under load.
    """
    cv2.setNumThreads(1)
    threadpool_limits(1, user_api="blas")
    shorten_pauses()
