"""The contract as an assertion, for the tests of every model family."""

from collections.abc import Mapping
from dataclasses import dataclass

from stemwright.core.arrays import FloatArray
from stemwright.models.contract import check_contract
from stemwright.models.manifest import Graph, Manifest
from stemwright.models.sessions.opening import Session, SessionFacts


def assert_keeps_contract(manifest: Manifest, session: Session, *, batch_size: int = 2) -> None:
    """Fail with what a model breaks; batches are tried even where a session would not ask for them."""
    if session.graph.batch == "one":
        batch_size = 1
    report = check_contract(manifest, session, batch_size=batch_size)
    broken = [f"{found.check}: {found.reason}" for found in report.findings if found.outcome == "broken"]
    assert not broken, "; ".join(broken)


@dataclass
class Meddling:
    """A session whose outputs are changed on the way, to see that the contract notices."""

    inner: Session

    @property
    def facts(self) -> SessionFacts:
        return self.inner.facts

    @property
    def graph(self) -> Graph:
        return self.inner.graph

    def run(self, inputs: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
        return {name: self.change(array) for name, array in self.inner.run(inputs).items()}

    def change(self, array: FloatArray) -> FloatArray:
        """Change an output."""
        return array

    def close(self) -> None:
        self.inner.close()
