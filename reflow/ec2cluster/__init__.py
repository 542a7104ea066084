"""Clusters of EC2 instances: what types there are, what they cost, and what can be had.

`catalog` reads the table of types, `cost` computes prices, `status` is the line that people see, and `spot`
finds out whether spot instances can be had.
"""
