"""Build hook: makes the parser's tables from the grammar and ships them beside it."""

import os
import sys

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = os.path.dirname(os.path.abspath(__file__))


class BuildWithTables(build_py):
    """Builds the package, then ``reflow/lang/grammar.bin`` in the result."""

    def run(self) -> None:
        """Build. An editable installation makes its tables itself, on first use."""
        super().run()
        if self.editable_mode:
            return
        sys.path.insert(0, ROOT)
        from reflow.lang.parse import build_tables, write_tables

        write_tables(self._target(), build_tables())

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Everything that a build makes."""
        outputs = super().get_outputs(include_bytecode)
        return outputs if self.editable_mode else sorted({*outputs, self._target()})

    def _target(self) -> str:
        return os.path.join(self.build_lib, "reflow", "lang", "grammar.bin")


setup(cmdclass={"build_py": BuildWithTables})
