"""Write src/embedstream/jars.lock from pom.xml. Needs `mvn`; maintainers run it, users never do."""

from __future__ import annotations

import hashlib
import re
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
LOCK = HERE.parents[1] / "src" / "embedstream" / "jars.lock"
PROFILES = ("kafka", "flink", "registry", "connect")
RESOLVED = re.compile(
    r"^\s+(?P<group>[^:\s]+):(?P<artifact>[^:]+):(?:jar|(?P<extension>tar\.gz):(?P<classifier>[^:]+)):(?P<version>[^:]+)"
    r":\w+:(?P<path>\S+\.(?:jar|tar\.gz))"
)
HEADER = (
    "# Made by requirements/jars/lock.py from requirements/jars/pom.xml: "
    "group:artifact:version[:extension:classifier] sha256\n"
)


def resolved_jars(profile: str) -> list[str]:
    """One sorted line for each jar that Maven resolves for a profile of the pom."""
    with tempfile.NamedTemporaryFile("r", encoding="utf-8") as listing:
        goal = ["dependency:list", f"-DoutputFile={listing.name}", "-DoutputAbsoluteArtifactFilename=true"]
        command = ["mvn", "--batch-mode", "--quiet", "--strict-checksums", "-f", str(HERE / "pom.xml"), "-P", profile]
        subprocess.run([*command, *goal, "-DincludeScope=runtime"], check=True)
        found = [RESOLVED.match(line) for line in listing.read().splitlines()]
    return sorted(_line(match) for match in found if match)


def _line(jar: re.Match[str]) -> str:
    digest = hashlib.sha256(Path(jar["path"]).read_bytes()).hexdigest()
    archive = f":{jar['extension']}:{jar['classifier']}" if jar["extension"] else ""
    return f"{jar['group']}:{jar['artifact']}:{jar['version']}{archive} {digest}"


def main() -> None:
    sections = ("\n".join([f"[{profile}]", *resolved_jars(profile), ""]) for profile in PROFILES)
    LOCK.write_text("\n".join([HEADER, *sections]), encoding="utf-8")


if __name__ == "__main__":
    main()
