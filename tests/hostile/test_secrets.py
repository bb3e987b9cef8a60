"""Secrets stay in the environment, and Ray listens on loopback, to nobody without its token: seen of a real search."""

import pytest
from fixtures.disturbed import Disturbed

pytestmark = pytest.mark.timeout(900)  # the search takes a minute, and several on a machine that is busy


def test_no_secret_is_written_in_a_file_a_log_or_the_terminal_though_a_trial_fails_and_all_is_logged(
    disturbed: Disturbed,
) -> None:
    assert "failed" in disturbed.states[1].values()
    assert any(" DEBUG " in text for text in disturbed.said)
    assert list(disturbed.run.folder.rglob("*.wandb"))
    assert disturbed.num_logs > 0
    assert disturbed.revealed == []


def test_nobody_is_let_in_without_a_token(disturbed: Disturbed) -> None:
    assert disturbed.listening
    assert set(disturbed.listening) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
    refused = "refused AuthenticationError"
    assert disturbed.answers == {"without": refused, "another": refused, "with": "let in 1"}
