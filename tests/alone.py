"""Runs the tests, and those few that failed beside others once more by themselves: ``make test``.

    python -m tests.alone ARGUMENTS OF PYTEST

Thousands of tests that start servers, brokers and browsers share a machine that may be busy with something
else. One that fails there and passes alone has a fault all the same, its own or that of what it tests. So it
is named at the end, for somebody to find it; it is no verdict on what has just been changed. It has to pass
several times in a row, only a few may fail at all, and what fails always still fails here.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

MOST = 3
"""Where more fail, it is not by chance."""
TIMES = 3
"""In a row that each has to pass alone."""


class Failures:
    """Takes down which tests fail."""

    def __init__(self) -> None:
        self.tests: list[str] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of any phase of a test, in any of the processes that share them."""
        if report.failed and report.nodeid not in self.tests:
            self.tests.append(report.nodeid)


def passes_alone(test: str) -> bool:
    """Whether a test passes so many times in a row with nothing beside it."""
    command = [sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider", test]
    return all(subprocess.run(command, check=False).returncode == 0 for _ in range(TIMES))


def run(arguments: list[str]) -> int:
    """Run the tests; the exit code is pytest's, or 0 where all that failed is only unsteady."""
    failures = Failures()
    status = int(pytest.main(arguments, plugins=[failures]))
    if status != pytest.ExitCode.TESTS_FAILED or not 0 < len(failures.tests) <= MOST:
        return status
    print(f"\n{len(failures.tests)} failed beside others; each is tried {TIMES} times alone", flush=True)
    if not all(map(passes_alone, failures.tests)):
        return status
    for test in failures.tests:
        print(f"UNSTEADY {test}: failed beside others, passed {TIMES} of {TIMES} times alone; find out why")
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
