"""Errors that are the user's to mend."""


class UserError(Exception):
    """A mistake in input, config or environment, told in one line.

    The message says what was wrong, where, what is allowed, and what to do. The command line prints it without a
    traceback and exits with code 2.
    """


class OtherVersion(UserError):
    """A file of a version of its format that this program does not read: whole, perhaps, so not to be replaced."""
