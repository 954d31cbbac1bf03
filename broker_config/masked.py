"""Values with a secret among them: printed, as in a traceback, they do not show it."""

from __future__ import annotations

import re
from typing import Any, Final

MASK: Final = "***"
_SECRET: Final = re.compile("(^|_)(password|secret)s?$")
#: The password of a URL: it may have an @, which a URL would have escaped.
_IN_URL: Final = re.compile("(?<=://)([^:/?#@]*):.*@", re.DOTALL)


def is_secret(field: str) -> bool:
    """Whether what has this name is a secret."""
    return _SECRET.search(field) is not None


class Masked:
    """Of a struct: `***` is printed for fields that are named so, as `secret`, and in URLs."""

    __slots__ = ()
    __struct_fields__: tuple[str, ...]

    def __repr__(self) -> str:
        shown = ((name, _shown(name, getattr(self, name))) for name in self.__struct_fields__)
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in shown)})"


def _shown(name: str, value: Any) -> Any:
    if isinstance(value, str) and "://" in value:
        value = _IN_URL.sub(rf"\1:{MASK}@", value)
    return MASK if value and is_secret(name) else value
