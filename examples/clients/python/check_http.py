#!/usr/bin/env python3
"""Asks every route of an account center whatever its description allows, and much that it does
not: `check_http.py URL`. Any 5xx, status, content type or body that the description does not
declare fails. The cases are drawn without chance: what fails once fails again."""

import subprocess
import sys
import tempfile

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    url = sys.argv[1].rstrip("/")
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"]
    command += ["--url", url, "--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing"]
    # Both what fits the description and what does not.
    command += ["--mode", "all", "--max-examples", "50", "--generation-deterministic"]
    # A server that is told the same thing by two at once must not fail either.
    command += ["--workers", "2", "--request-timeout", "10", "--no-color"]
    # It leaves files where it runs.
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(command, check=False, cwd=folder).returncode


if __name__ == "__main__":
    sys.exit(main())
