"""`POST /v1/documents`: put a document into a collection."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import PurePosixPath
from typing import Annotated

from fastapi import APIRouter, File, Form, Request, UploadFile
from starlette.datastructures import FormData
from starlette.responses import JSONResponse, Response

from contracts.errors import Code
from rag_graph.state import DEFAULT_COLLECTION
from serve_app.errors import RequestError
from serve_app.services import Services

MAX_NAME_LENGTH = 512


def router(services: Services) -> APIRouter:
    """Return the document routes."""
    routes = APIRouter(tags=["documents"])

    @routes.post("/v1/documents", summary="Add or replace a document", response_model=None)
    async def add(
        request: Request,
        file: Annotated[UploadFile, File(description="Markdown, text, HTML or PDF.")],
        collection: Annotated[str, Form(min_length=1, max_length=64)] = DEFAULT_COLLECTION,
    ) -> Response:
        await services.authorize(request.headers, "ingest", collection)
        _only(await request.form(), "file", "collection")
        name = document_name(file.filename or "")
        report = await services.ingest(name, await file.read(), collection)
        return JSONResponse(asdict(report), 201)

    return routes


def _only(form: FormData, *known: str) -> None:
    """Refuse a form with any other field than `known`."""
    for field in form:
        if field not in known:
            message = f"The field {field!r} is not supported; remove it from the request."
            raise RequestError(message, Code.UNSUPPORTED_FIELD, field)


def document_name(filename: str) -> str:
    """Return `filename` as a relative path that names a document and can leave no folder.

    Raises:
        RequestError: nothing is left of it, or it is too long or holds control characters.
    """
    parts = PurePosixPath(filename.replace("\\", "/")).parts
    name = "/".join(part for part in parts if part not in {"/", "..", "."})
    if not name or len(name) > MAX_NAME_LENGTH or not name.isprintable():
        raise RequestError(
            f"The uploaded file needs a printable name of 1 to {MAX_NAME_LENGTH} characters.",
            None,
            "file",
        )
    return name
