#!/usr/bin/env python3
"""Asks every route of an account center whatever its description allows, and much that it does
not: `check_http.py URL`. Any 5xx, status, content type or body that the description does not
declare fails. The same seed asks the same, so that what fails once fails again."""

import subprocess
import sys

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)


def main() -> int:
    url = sys.argv[1].rstrip("/")
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"]
    command += ["--url", url, "--checks", ",".join(CHECKS)]
    # Both what fits the description and what does not.
    command += ["--mode", "all", "--phases", "examples,coverage,fuzzing"]
    command += ["--seed", "1", "--generation-deterministic", "--generation-database", "none"]
    command += ["--max-examples", "50", "--request-timeout", "10", "--workers", "2"]
    command += ["--no-color"]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
