"""The API as one page of HTML: FastAPI's own pages fetch scripts from elsewhere, and this one fetches nothing."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from metseg.serving.gateway.schemas import EXAMPLES

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #1d2733 }
h2 { margin: 2.5rem 0 .3rem; font-size: 1.1rem } code, pre { font: 14px/1.5 ui-monospace, monospace }
pre { background: #f3f5f8; padding: .8rem 1rem; overflow-x: auto; border-radius: 6px }
b.GET { color: #1b6e3c } b.POST { color: #1c4fa0 } b.DELETE { color: #a02525 }
table { border-collapse: collapse; width: 100% } td { padding: .25rem .8rem .25rem 0; vertical-align: top }
tr { border-top: 1px solid #dde3ea } summary { cursor: pointer; color: #49576a }
"""


def page(document: dict[str, Any]) -> str:
    """HTML of an OpenAPI document: every operation with parameters, answers and an example."""
    operations = [
        _operation(method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = "".join(_schema(name, schema) for name, schema in document["components"]["schemas"].items())
    information = document["info"]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(information["title"])}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head><body>'
        f"<h1>{escape(information['title'])} {escape(information['version'])}</h1>"
        f"<p>{escape(information['description'])}</p>"
        '<p>The same for programs: <a href="/openapi.json">openapi.json</a></p>'
        f"{''.join(operations)}<h2>What is sent and answered</h2>{schemas}</body></html>"
    )


def _operation(method: str, path: str, operation: dict[str, Any]) -> str:
    name = operation["operationId"]
    rows = [(f"{one['name']} ({one['in']})", one.get("description", "")) for one in operation.get("parameters", ())]
    body = operation.get("requestBody", {}).get("content", {})
    for kind, content in body.items():
        fields = content["schema"].get("properties", {}).items()
        rows += [(f"{field} ({kind})", described.get("description", "")) for field, described in fields]
    answers = [(code, answer["description"]) for code, answer in sorted(operation["responses"].items())]
    return (
        f'<h2 id="{escape(name)}"><b class="{method}">{method}</b> <code>{escape(path)}</code></h2>'
        f"<p>{escape(operation.get('description') or operation.get('summary', ''))}</p>{_table(rows)}"
        f"<pre>{escape(EXAMPLES[name])}</pre>{_table(answers)}"
    )


def _table(rows: list[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td><code>{escape(name)}</code></td><td>{escape(text)}</td></tr>" for name, text in rows)
    return f"<table>{cells}</table>" if rows else ""


def _schema(name: str, schema: dict[str, Any]) -> str:
    shown = schema.get("example", {key: value.get("type", "…") for key, value in schema.get("properties", {}).items()})
    text = json.dumps(shown, indent=1, ensure_ascii=False)
    title = f"{escape(name)}: {escape(schema.get('description', ''))}"
    return f"<details><summary>{title}</summary><pre>{escape(text)}</pre></details>"
