"""Executors of one machine: where a command of a program really runs.

`reflow.executor.process.ProcessExecutor` runs it with this machine's own tools,
`reflow.executor.docker.DockerExecutor` in a container of its image, and
`reflow.executor.sandbox.SandboxExecutor` in its image too, without a daemon. Each is a
`reflow.executor.local.LocalExecutor`, which does all that they share:

* ``<localdir>/execs/<hex>/`` is the directory of one exec (`layout`): ``arg/<i>/<j>`` has its inputs
  (`staging`), ``return/<k>`` its outputs (`output`), ``tmp`` is its home, ``lock`` is locked while it lives.
  The name is made from command and inputs. It goes when the exec ends; that of a failed exec stays, with
  ``failed`` (why), ``command``, ``stdout`` and ``stderr``, until the same command runs again or two weeks
  have passed.
  Before a command starts, ``manifest.json`` says what it is; the lock's file says its pid, and how it ended.
* Commands are started by a launcher (`launcher`) and outlive their run; the next one goes on with them
  (`recovery`). ``<localdir>/results/…`` are results on their way to the cache (`journal`).
* ``<localdir>/logs/<1 hex>/<hex>.stdout`` and ``….stderr``, named by the exec's id, have its output, while it
  runs and afterwards, where there is any. An exec that is put again under its id replaces them.
* ``<localdir>/spare/…`` are directories that the next execs will have, and what is being deleted.
* Exit codes become errors in one table (`outcome`), gauges are sampled from /proc and cgroup files
  (`profile`).

`reflow.executor.choose` says which executor a run uses, `reflow.executor.images` which digest of an image
enters cache keys, `reflow.executor.transfer` has the interns and externs of ``localfile://``.
"""
