"""The vocabulary of Reflow: digests, files, resources, errors. Values only: nothing here does I/O."""
