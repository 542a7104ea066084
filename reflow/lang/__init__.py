"""The language: from source text to a value or a flow graph.

`reflow.lang.session` opens modules (parse, check); `reflow.lang.interp` evaluates them. A value is
immediate, or a `reflow.flow.node.Flow` that stands for it, or a container that holds flows.
"""
