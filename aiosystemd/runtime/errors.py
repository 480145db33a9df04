"""What a start and an order can fail with."""


class StartError(Exception):
    """The server cannot start; the text is one line for a person, the cause (if any) the user's own exception."""


class OrderError(Exception):
    """An order, such as a reload, cannot be carried out; the text is one line for a person."""


class Stopped(SystemExit):
    """Asked to stop before there was anything to serve: a clean exit (status 0) that no ``except Exception`` eats."""

    def __init__(self) -> None:
        super().__init__(0)
