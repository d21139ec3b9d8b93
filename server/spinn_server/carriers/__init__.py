"""What moves the messages of sessions."""
