"""Pages of Data Docs in which everything from the data is escaped.

Great Expectations fills its templates without escaping, and escapes a part of the values by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from great_expectations.render.view.view import DefaultJinjaPageView
from jinja2 import pass_context
from markupsafe import Markup, escape


class EscapingPageView(DefaultJinjaPageView):
    """Great Expectations' view of a page, with every text escaped once.

    Its templates are rendered with autoescape. Its filters are those of the base class; their markup is marked as
    safe, and the texts that they put into it are escaped.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.env.autoescape = True

    @pass_context
    def render_content_block(
        self,
        jinja_context: Any,
        content_block: Any,
        index: Any = None,
        content_block_id: Any = None,
        render_to_markdown: bool = False,
    ) -> Any:
        """Render a block by its template; any other value is a text to escape."""
        if isinstance(content_block, list):
            blocks = [
                self.render_content_block(
                    jinja_context, block, place, content_block_id and f"{content_block_id}-{place}"
                )
                for place, block in enumerate(content_block)
            ]
            return Markup("").join(
                block if isinstance(block, Markup) else Markup("<span>{}</span>").format(block) for block in blocks
            )
        rendered = super().render_content_block(jinja_context, content_block, index, content_block_id)
        return rendered if rendered is content_block else Markup(rendered)

    def render_string_template(self, template: Any) -> Any:
        """Fill a sentence with its parameters."""
        if not isinstance(template, dict):
            return template
        escaped = {**template, "template": str(escape(template.get("template", "")))}
        return Markup(super().render_string_template(escaped))  # type: ignore[no-untyped-call]

    @staticmethod
    def _escape_template_param_value(value: Any) -> str:
        return str(escape(value))

    def render_styling(self, styling: Mapping[str, Any]) -> Markup:
        """Return classes, attributes and styles of an element."""
        attributes = {name: escape(value) for name, value in styling.get("attributes", {}).items()}
        return Markup(super().render_styling({**styling, "attributes": attributes}))

    def attributes_dict_to_html_string(self, attributes_dict: Mapping[str, Any], prefix: str = "") -> Markup:
        """Return attributes of an element."""
        escaped = {name: escape(value) for name, value in attributes_dict.items()}
        return Markup(super().attributes_dict_to_html_string(escaped, prefix))
