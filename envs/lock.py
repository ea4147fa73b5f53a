"""Write requirements.lock: the pins of constraints.txt with the SHA-256 of the files that pip takes for them.

What pip would install, and its digests as the index tells them, are in a report for each Python:

    grep -vE '^(torch==|triton|cuda-|nvidia-|sherpa-mc)' constraints.txt > pins.txt
    pip install --dry-run --ignore-installed --no-deps --target x --python-version 3.12 --report 3.12.json -r pins.txt
    python envs/lock.py 3.11.json 3.12.json 3.13.json > requirements.lock

torch and what a CUDA build of it brings are left out: any build of the pinned version will do, and each has its files.
So is Sherpa, which has an environment of its own.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

HEAD = """\
# Made by envs/lock.py from constraints.txt, for CPython 3.11, 3.12 and 3.13 on Linux x86_64. To install with it, see
# docs/security.md. Not here, for any build will do: torch, and what a CUDA build of it brings.
--only-binary :all:
--no-binary connection_pool
"""


def main(reports: list[str]) -> None:
    """Print the lock."""
    hashes: dict[str, set[str]] = defaultdict(set)
    for report in reports:
        for entry in json.loads(Path(report).read_text())["install"]:
            about = entry["metadata"]
            name = about["name"].lower().replace("_", "-").replace(".", "-")
            hashes[f"{name}=={about['version']}"].add(entry["download_info"]["archive_info"]["hashes"]["sha256"])
    lines = (" ".join([pin, *(f"--hash=sha256:{found}" for found in sorted(hashes[pin]))]) for pin in sorted(hashes))
    print(HEAD + "\n".join(lines))


if __name__ == "__main__":
    main(sys.argv[1:])
