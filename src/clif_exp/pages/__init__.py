"""What the pages of a run share: their frame, their style, and how templates are rendered."""

from __future__ import annotations

from typing import Any


def render(package: str, template: str, **content: Any) -> str:
    """Render a page.

    Args:
        package: whose folder `templates` holds the template; it extends `page.html.j2` of this one.
        template: the file's name.
        content: what the template shows. It may come from users: it is always escaped.

    Returns:
        One HTML file that needs nothing beside it.
    """
    from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("clif_exp.pages")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(**content)
