"""What a command shows of messages and warnings: ours, and of others what a user can act on."""

import logging
import warnings

import pytest

from lidar_lightning.commands.console import NOISE, console

LIGHTNING = "lightning.pytorch.utilities.rank_zero"


def test_our_messages_are_shown_once_and_warnings_say_so(capsys):
    with console(), console():
        logging.getLogger("lidar_lightning.anything").info("drawn")
        logging.getLogger("datamodules.anything").warning("left out")
        logging.getLogger("lidar_lightning.anything").debug("detail")
    logging.getLogger("lidar_lightning.anything").info("after")
    assert capsys.readouterr().err == "lidar: drawn\nlidar: warning: left out\n"


def test_debug_shows_details(capsys):
    with console(debug=True):
        logging.getLogger("lidar_lightning.anything").debug("detail")
    assert capsys.readouterr().err == "lidar: detail\n"


@pytest.mark.parametrize("name, beginning", [(name, text) for name, texts in NOISE.items() for text in texts])
def test_noise_is_hidden_only_by_the_command_and_not_with_debug(name, beginning, caplog):
    logger = logging.getLogger(name)
    with caplog.at_level(logging.INFO, logger=name):
        caplog.handler.setLevel(logging.INFO)
        logger.addHandler(caplog.handler)
        try:
            with console():
                logger.info("%s and so on", beginning)
                assert caplog.messages == []
                logger.info("something new")
            with console(debug=True):
                logger.info("%s and so on", beginning)
        finally:
            logger.removeHandler(caplog.handler)
    assert set(caplog.messages) == {"something new", f"{beginning} and so on"}


def test_warnings_of_others_pass_unless_they_follow_from_what_we_do():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with console():
            warnings.warn("Found 74 module(s) in eval mode at the start of training.", stacklevel=1)
            assert not seen
            warnings.warn("of another library", stacklevel=1)
    assert [str(warning.message) for warning in seen] == ["of another library"]


def test_filters_end_with_the_command():
    before = list(warnings.filters), warnings.showwarning, list(logging.getLogger(LIGHTNING).filters)
    with console():
        assert logging.getLogger(LIGHTNING).filters != before[2]
    assert (list(warnings.filters), warnings.showwarning, list(logging.getLogger(LIGHTNING).filters)) == before
