"""A sink that somebody else wrote, installed: a module, and the metadata by which it is found."""

from pathlib import Path


def install(folder: Path, *, name: str, code: str) -> Path:
    """Make `folder` a place for sys.path with a distribution whose sink is called `name`, of class `TheSink` in `code`."""
    module = f"their_{name}"
    metadata = folder / f"{module}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (folder / f"{module}.py").write_text(code)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[bridge.sinks]\n{name} = {module}:TheSink\n")
    return folder
