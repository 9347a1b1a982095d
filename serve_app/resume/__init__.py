"""Streamed answers that outlive their connection, and the replica that makes them."""

from serve_app.resume.streams import Frames, Streams

__all__ = ["Frames", "Streams"]
