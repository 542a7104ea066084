"""What marks the containers of execs."""

ID_LABEL = "reflow-id"
DIRECTORY_LABEL = "reflow-directory"
LOCALDIR_LABEL = "reflow-localdir"
