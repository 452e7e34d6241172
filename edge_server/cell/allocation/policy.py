"""What every policy is: a function from a problem to an allocation, with a name."""

from __future__ import annotations

from typing import Protocol

from edge_server.cell.allocation.problem import Allocation, Problem


class Policy(Protocol):
    """One way to share a cell out."""

    @property
    def name(self) -> str:
        """As settings and figures call it."""
        ...

    def allocate(self, problem: Problem) -> Allocation:
        """An allocation within every bound of the problem.

        Raises:
            InfeasibleError: there is none, under any policy.
        """
        ...
