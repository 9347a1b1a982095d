"""`/v1/documents`: put documents into collections, see what is there, take them out."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Annotated, Any

from fastapi import APIRouter, File, Form, Path, Query, Request, UploadFile
from starlette.datastructures import FormData
from starlette.responses import Response

from contracts.errors import Code
from rag_graph.state import DEFAULT_COLLECTION
from serve_app.errors import RequestError
from serve_app.routes.jobs import Limit, Wait, job_response
from serve_app.services import Services

MAX_NAME_LENGTH = 512
Collection = Annotated[str, Query(min_length=1, max_length=64)]
DocumentId = Annotated[str, Path(max_length=64, description="The document's id.")]


def router(services: Services) -> APIRouter:
    """Return the document routes."""
    routes = APIRouter(tags=["documents"])
    library = services.library

    @routes.post(
        "/v1/documents",
        summary="Add or replace a document",
        status_code=202,
        response_model=None,
        responses={
            200: {"description": "The job, ended already."},
            202: {"description": "The job."},
        },
    )
    async def add(
        request: Request,
        file: Annotated[
            UploadFile,
            File(description="PDF, DOCX, PPTX, XLSX, EPUB, HTML, CSV, Markdown, text or code."),
        ],
        collection: Annotated[str, Form(min_length=1, max_length=64)] = DEFAULT_COLLECTION,
        wait: Wait = 0,
    ) -> Response:
        """Answer with the job: 202 while it has not ended, 200 once it has."""
        key = await services.authorize(request.headers, "ingest", collection)
        _only(await request.form(), "file", "collection")
        name = document_name(file.filename or "")
        job = await library.submit(key.tenant, name, await file.read(), collection)
        if wait and not job.ended:
            job = await library.ended(key.tenant, job.id, wait)
        return job_response(job, 200 if job.ended else 202)

    @routes.get("/v1/documents", summary="Documents of a collection, by name")
    async def documents(
        request: Request,
        collection: Collection = DEFAULT_COLLECTION,
        after: Annotated[str, Query(max_length=MAX_NAME_LENGTH, description="A name.")] = "",
        limit: Limit = 100,
    ) -> dict[str, Any]:
        await services.authorize(request.headers, "ask", collection)
        found = await library.documents(collection, after, limit + 1)
        return {"documents": found[:limit], "has_more": len(found) > limit}

    @routes.get("/v1/documents/{document_id}", summary="One document")
    async def document(
        request: Request, document_id: DocumentId, collection: Collection = DEFAULT_COLLECTION
    ) -> dict[str, Any]:
        await services.authorize(request.headers, "ask", collection)
        return await library.document(collection, document_id)

    @routes.delete("/v1/documents/{document_id}", summary="Delete a document", status_code=204)
    async def delete(
        request: Request, document_id: DocumentId, collection: Collection = DEFAULT_COLLECTION
    ) -> Response:
        await services.authorize(request.headers, "ingest", collection)
        await library.delete_document(collection, document_id)
        return Response(status_code=204)

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
