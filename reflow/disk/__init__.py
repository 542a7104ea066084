"""This machine's disk, for whoever keeps state on it: SQLite files, copies, renames, kinds of file system.

`database` opens SQLite files as all of Reflow's are opened; `filesystem` has what `os` lacks; both
translate the system's errors. Knows nothing of what is stored.
"""
