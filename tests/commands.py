"""Commands of `python -m parity`, run in this process."""

import pytest

from parity.__main__ import main


def refused(capsys, *arguments):
    """The sentence with which the command declines."""
    with pytest.raises(SystemExit) as exit:
        main(arguments)
    assert exit.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return " ".join(err.partition("error: ")[2].split())
