"""Errors that a person is meant to read."""


class InputError(Exception):
    """Bad input: one line that names the file, the field and the mend.

    The command line prints it on stderr and exits with 2, without a traceback.
    """

    def __init__(self, message: str) -> None:
        """Store ``message`` on one line, whatever line breaks it came with."""
        super().__init__(" ".join(message.split()))


class TrainingFailed(Exception):  # noqa: N818 - it names what happened to the training, not a defect
    """One training that cannot be scored, with its reason: it fails the trial, never the run."""
