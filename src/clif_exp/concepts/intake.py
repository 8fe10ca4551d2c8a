"""What was done to a user's set on the way in, so that the terminal and the report can say it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class CaptionChange:
    """A caption that is not used as it stands.

    Attributes:
        concept: its concept's name.
        file: of the image, relative to the set's folder.
        caption: as the user wrote it.
        used: what training uses; None: it is left out, and the image gets the usual captions.
        reason: why it is left out.
    """

    concept: str
    file: str
    caption: str
    used: str | None
    reason: str | None = None


@dataclass(frozen=True)
class Intake:
    """What was taken over, changed and left out of a set.

    Attributes:
        captions_kept: captions used as they are.
        captions_changed: those rewritten or left out.
        renamed: [name in the set, name in the run], where the first would be a class word.
        concepts_left_out: names of those beyond `dataset.size` or not among `dataset.names`.
        notes: what else was decided, in sentences.
    """

    captions_kept: int = 0
    captions_changed: tuple[CaptionChange, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    concepts_left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def captions_rewritten(self) -> tuple[CaptionChange, ...]:
        """Captions that got `<name>` where they spoke of their concept."""
        return tuple(change for change in self.captions_changed if change.used is not None)

    @property
    def captions_left_out(self) -> tuple[CaptionChange, ...]:
        """Captions that training does not use."""
        return tuple(change for change in self.captions_changed if change.used is None)

    def record(self) -> dict[str, Any]:
        """Return plain JSON values under the attributes' names."""
        return asdict(self)

    def lines(self) -> list[str]:
        """Return what a user is told at the start, a line each; none if all is as it was given."""
        lines = list(self.notes)
        for before, after in self.renamed:
            lines.append(
                f"concept '{before}' is called <{after}>: '{before}' is a class word of the set"
            )
        if self.concepts_left_out:
            lines.append(f"concepts left out: {_some(self.concepts_left_out)}")
        if self.captions_kept or self.captions_changed:
            lines.append(self._about_captions())
        return lines

    def _about_captions(self) -> str:
        rewritten, left_out = self.captions_rewritten, self.captions_left_out
        line = (
            f"captions: {self.captions_kept} used as they are, {len(rewritten)} rewritten,"
            f" {len(left_out)} left out"
        )
        if rewritten:
            line += f"; rewritten as '{rewritten[0].caption}' -> '{rewritten[0].used}'"
        if left_out:
            reasons = [f"{change.file} {change.reason}" for change in left_out]
            line += f"; left out: {_some(reasons)}"
        return line


def _some(items: tuple[str, ...] | list[str], *, most: int = 3) -> str:
    """Join the first items and count the rest."""
    more = f" and {len(items) - most} more" if len(items) > most else ""
    return ", ".join(items[:most]) + more
