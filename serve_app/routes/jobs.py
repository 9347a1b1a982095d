"""`/v1/jobs`: the ingestion jobs of the caller's tenant, and their progress as it happens."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import JSONResponse, Response

from contracts import errors, sse
from contracts.errors import CodedError
from rag_graph.errors import NotFoundError
from rag_graph.ingest.job import Job
from serve_app.auth import Key
from serve_app.event_stream import EventStream
from serve_app.library import Library
from serve_app.responses import error_body
from serve_app.services import Services

MAX_WAIT_S = 60
NEWS_S = 10.0
"""Seconds after which a stream without news says that it is alive."""
JobId = Annotated[str, Path(max_length=64, description="The job's id.")]
Wait = Annotated[
    float,
    Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the job's end before answering."),
]
Limit = Annotated[int, Query(ge=1, le=1000, description="Most that are returned.")]


def router(services: Services) -> APIRouter:
    """Return the routes over jobs. Another tenant's job is not found."""
    routes = APIRouter(tags=["jobs"])
    library = services.library

    @routes.get("/v1/jobs", summary="Ingestion jobs, the latest first")
    async def jobs(
        request: Request,
        active: Annotated[bool, Query(description="Only jobs that have not ended.")] = False,
        limit: Limit = 100,
    ) -> dict[str, Any]:
        key = await services.authorize(request.headers, "ingest", None)
        found = [job for job in await library.jobs(key.tenant) if key.sees(job.collection)]
        wanted = [job for job in found if not (active and job.ended)]
        return {
            "jobs": [job.wire() for job in wanted[:limit]],
            "has_more": len(wanted) > limit,
        }

    @routes.get("/v1/jobs/{job_id}", summary="One ingestion job", response_model=None)
    async def job(request: Request, job_id: JobId, wait: Wait = 0) -> Response:
        key = await services.authorize(request.headers, "ingest", None)
        found = await _visible(library, key, job_id)
        if wait:
            found = await library.ended(key.tenant, job_id, wait)
        return job_response(found, 200)

    @routes.get(
        "/v1/jobs/{job_id}/events",
        summary="A job's progress, as server-sent events until it has ended",
        response_model=None,
        responses={200: {"content": {sse.MEDIA_TYPE: {}}}},
    )
    async def events(request: Request, job_id: JobId) -> Response:
        key = await services.authorize(request.headers, "ingest", None)
        return EventStream(_frames(library, await _visible(library, key, job_id)))

    @routes.delete("/v1/jobs/{job_id}", summary="Cancel a job", response_model=None)
    async def cancel(request: Request, job_id: JobId) -> Response:
        key = await services.authorize(request.headers, "ingest", None)
        await _visible(library, key, job_id)
        return job_response(await library.cancel(key.tenant, job_id), 200)

    return routes


def job_response(job: Job, status: int) -> JSONResponse:
    """Return a job as a response; its address is in the header `location`."""
    return JSONResponse(job.wire(), status, headers={"location": f"/v1/jobs/{job.id}"})


async def _visible(library: Library, key: Key, job_id: str) -> Job:
    job = await library.job(key.tenant, job_id)
    if not key.sees(job.collection):
        raise NotFoundError(f"There is no job {job_id!r}.")
    return job


async def _frames(library: Library, job: Job) -> AsyncGenerator[bytes, None]:
    yield _frame(job)
    try:
        while not job.ended:
            newer = await library.news(job.tenant, job.id, job.updated_at, NEWS_S)
            changed = newer.updated_at != job.updated_at
            job = newer
            yield _frame(job) if changed else sse.comment("no news")
    except CodedError as error:
        yield sse.encode(errors.ErrorEnvelope(error=error_body(error)).model_dump_json())


def _frame(job: Job) -> bytes:
    return sse.encode(json.dumps(job.wire()))
