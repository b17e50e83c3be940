"""A contract of import-linter: no modules import each other in a circle.

Its own kind looks at packages beside each other, this one at modules. Imports in functions and
under TYPE_CHECKING count: there a circle is hidden, not gone.
"""

import networkx
from grimp import ImportGraph
from importlinter import Contract, ContractCheck, output


def circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Every group of modules of which each reaches each other; imports by module."""
    groups = networkx.strongly_connected_components(networkx.DiGraph(imports))
    return sorted(sorted(group) for group in groups if len(group) > 1)


class AcyclicContract(Contract):
    """Holds where the imports of the project's own modules form no circle."""

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Look at all imports between modules."""
        imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
        found = circles(imports)
        return ContractCheck(kept=not found, metadata={"circles": found})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """One line for each circle."""
        for group in check.metadata["circles"]:
            output.print_error(f"these import each other: {', '.join(group)}", bold=False)
