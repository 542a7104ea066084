"""System functions: those that every program has, and those of the modules ``$/NAME``.

A system module is declared in ``reflow/lang/stdlib/NAME.rf`` (names, types, documentation) and implemented
in the module of this package that `registry` names for it.
"""
