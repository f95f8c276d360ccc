"""What the tests of the wire share."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trio_ws._wire.deflate_backends import BACKENDS, VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", params=BACKENDS)
def deflate_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each library that compresses and is here, for a whole module: what nobody names a library for uses it."""
    name: str = request.param
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, name)
        yield name
