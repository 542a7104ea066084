"""The lazy graph that a program evaluates to.

A node says what is to be computed, never whether it has been: the evaluator keeps states and
values on the side. `reflow.flow.node` has one class per operation, `reflow.flow.digest` names nodes
(logical digest) and their results (physical digest), `reflow.flow.data` holds inline and local data.
Graphs may be as deep as a program likes: nothing here recurses over them.
"""
