"""`spinn webcam`: a live picture in the browser, with its label, the age of the answer, and who gave it.

controls.py holds all of it together; page.py shows it and video.py carries the pictures. session.py has the streams,
camera.py the pictures, backend.py the processes.
"""
