"""A typed, asynchronous client of the Isthmus gateway."""

from isthmus_client.client import Client
from isthmus_client.errors import IsthmusError, RefusedError, UnreachableError
from isthmus_client.models import Answer, Citation, Document, Job, Passage, Thread

__all__ = [
    "Answer",
    "Citation",
    "Client",
    "Document",
    "IsthmusError",
    "Job",
    "Passage",
    "RefusedError",
    "Thread",
    "UnreachableError",
]
