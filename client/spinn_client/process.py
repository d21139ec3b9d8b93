"""Settings of the whole process. Nothing here happens by itself: an application asks for it."""

from __future__ import annotations

import cv2
from threadpoolctl import threadpool_limits

from spinn_stream.runtime.machine.threads import shorten_pauses


def tune_process() -> None:
    """Make this process answer on time. Call it once, after all imports, at best when the first stream is open.

    It changes the whole process, so a program with other work has to decide whether it wants this:

    - OpenCV and numpy's products use one thread each; otherwise they would take every core from the network;
    - the interpreter switches threads ten times as often (every 0.5 ms), so that no thread waits long for another;
    - the garbage collector never again searches the present objects, which takes 20 to 50 ms each time.

    Without it every promise is kept, but answers are some milliseconds older under load.
    """
    cv2.setNumThreads(1)
    threadpool_limits(1, user_api="blas")
    shorten_pauses()
