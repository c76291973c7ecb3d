"""A template engine that is imported when something is to be rendered."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from provider.errors import Origin, Problem
from provider.manifest.files import SourceFile
from provider.manifest.source import Rendered

if TYPE_CHECKING:
    from provider.manifest.template import Content, Template


class LateRenderer:
    """Renders with the values of a run; implements provider.manifest.source.Renderer.

    Values nobody asks for are read all the same: what is wrong with them is wrong with the run.
    """

    def __init__(
        self,
        values: Iterable[SourceFile],
        secret_values: Iterable[SourceFile],
        sets: Iterable[str],
        *,
        complete: bool = True,
    ) -> None:
        """Without *complete*, some values could not be read: what is undefined may be theirs."""
        self._inputs = tuple(values), tuple(secret_values), tuple(sets)
        self._complete = complete
        self._template: Template | None = None
        self.problems: tuple[Problem, ...] = ()
        if any(self._inputs):
            self._ready()

    def render(self, file: SourceFile) -> Rendered | tuple[Problem, ...]:
        """Return what *file* renders to, or what stopped it; nothing: that was told already."""
        return self._ready().render(file)

    def render_content(self, text: str, *, origin: Origin) -> "Content | tuple[Problem, ...]":
        """Return *text*, written at *origin*, as the content of a Config."""
        return self._ready().render_content(text, origin=origin)

    @property
    def included(self) -> Mapping[str, bytes]:
        """Files that were included or imported so far."""
        return {} if self._template is None else self._template.included

    def _ready(self) -> "Template":
        if self._template is None:
            from provider.manifest.template import Template
            from provider.manifest.values import read_values

            plain, secret, sets = self._inputs
            values, problems = read_values(files=plain, sets=sets)
            hidden, more = read_values(files=secret, confidential=True)
            self.problems = (*problems, *more)
            self._template = Template(
                values,
                secrets=hidden if secret else None,
                complete=self._complete and not self.problems,
            )
        return self._template
