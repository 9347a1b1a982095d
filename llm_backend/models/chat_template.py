"""The Jinja dialect in which models write their chat templates.

Sandboxed, since a template is code that came with the weights. Source of the dialect:
https://huggingface.co/docs/transformers/chat_templating_writing
"""

from __future__ import annotations

import json
from datetime import datetime
from functools import lru_cache
from typing import Any, NoReturn

from jinja2 import Environment, Template, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment


def compile_template(source: str) -> Template:
    """Return the template, ready to render.

    Raises:
        jinja2.TemplateError: `source` is no template.
    """
    return environment().from_string(source)


@lru_cache(maxsize=1)
def environment() -> Environment:
    """Return the dialect."""
    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    made.filters["tojson"] = _tojson
    made.globals["raise_exception"] = _raise
    made.globals["strftime_now"] = _now
    return made


def _tojson(value: Any, indent: int | None = None, ensure_ascii: bool = False) -> str:
    """Serialise without Jinja's HTML escapes, which models were not trained on."""
    return json.dumps(value, indent=indent, ensure_ascii=ensure_ascii)


def _raise(message: str) -> NoReturn:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
