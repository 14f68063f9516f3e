"""The one root of the errors a user can cause and mend."""


class UserError(Exception):
    """Bad input or settings. The message says where, what was found, what was needed and what to do next.

    The command line prints it as one paragraph and exits with `exit_code`; nothing else prints without a traceback.
    """

    exit_code = 2
