"""What an address may carry beside the place is not shown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safe_install.errors import PipFailed, Refused
from safe_install.redaction import redact, redact_words


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://user:secret@host:8080/x.whl", "https://****@host:8080/x.whl"),
        ("https://secret@host/x.whl", "https://****@host/x.whl"),
        ("https://user:se@cret@host/x.whl", "https://****@host/x.whl"),
        (
            "--index-url=https://user:secret@host/simple --no-deps",
            "--index-url=https://****@host/simple --no-deps",
        ),
        (
            "a https://u:secret@one/ and https://u:secret@two/",
            "a https://****@one/ and https://****@two/",
        ),
        ("x @ git+https://u:secret@host/r@v1", "x @ git+https://****@host/r@v1"),
        ("git+ssh://git@github.com/a/b@v1", "git+ssh://git@github.com/a/b@v1"),
        ("https://host/x?token=secret&a=b", "https://host/x?token=****&a=b"),
        (
            "https://host/x?a=b&X-Amz-Signature=secret#f",
            "https://host/x?a=b&X-Amz-Signature=****#f",
        ),
        ("https://host/x?sv=1&sig=secret", "https://host/x?sv=1&sig=****"),
        ("https://host/x?access_token=secret'", "https://host/x?access_token=****'"),
        (
            "https://host/x?access=secret&pat=secret&code=secret&key=secret",
            "https://host/x?access=****&pat=****&code=****&key=****",
        ),
        ("https://host/x?private_pat=secret;my-code=secret", "https://host/x?private_pat=****"),
        ("https://host/x#access_token=secret", "https://host/x#access_token=****"),
        (
            "https://host/x?compat=1&decode=1&subdirectory=a",
            "https://host/x?compat=1&decode=1&subdirectory=a",
        ),
        (
            "backend was told token=secret, api_key=secret and HF_TOKEN=secret",
            "backend was told token=****, api_key=**** and HF_TOKEN=****",
        ),
        ("--password=secret", "--password=****"),
        (
            "token==1.0 secret>=2 my-token~=3 a[token]===1",
            "token==1.0 secret>=2 my-token~=3 a[token]===1",
        ),
        ("exit code=1 sort key=name", "exit code=1 sort key=name"),
        ("https://host/x@1.whl#sha256=aa", "https://host/x@1.whl#sha256=aa"),
        ("a plain text, me@example.org, a=b", "a plain text, me@example.org, a=b"),
    ],
)
def test_redact(text, shown):
    assert redact(text) == shown
    assert redact(shown) == shown


@given(
    st.from_regex(r"[^\s/?#@]{1,20}", fullmatch=True), st.from_regex(r"[a-z]{3,9}", fullmatch=True)
)
def test_whatever_the_password_it_is_gone(password, host):
    assert redact(f"see https://user:{password}@{host}/x now") == f"see https://****@{host}/x now"


def test_an_error_has_no_secret_in_it():
    address = "https://user:secret@host/x"
    error = PipFailed(f"no {address}", hint=f"mend {address}", output=f"ERROR: {address}")
    assert "secret" not in f"{error} {error.args} {error.message} {error.hint} {error.output}"
    assert "secret" not in repr(Refused(address))


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        ("install -C token=secret x", "install -C token=**** x"),
        ("install -Ctoken=secret x", "install -Ctoken=**** x"),
        (
            "install -C key=secret -C code=secret -C pat=secret x",
            "install -C key=**** -C code=**** -C pat=**** x",
        ),
        ("install --config-settings=access=secret x", "install --config-settings=access=**** x"),
        ("install --config-settings access=secret x", "install --config-settings access=**** x"),
        (
            "install --config-setting --build-option=--auth=secret x",
            "install --config-setting --build-option=--auth=**** x",
        ),
        ("install --global-option=--token=secret x", "install --global-option=--token=**** x"),
        ("install --global-option --key=secret x", "install --global-option --key=**** x"),
        ("install -C debug=1 -C cmake.args=-DX=2 x", "install -C debug=1 -C cmake.args=-DX=2 x"),
        ("install -C -C x==1", "install -C -C x==1"),
        (
            "install -i https://u:secret@host/?code=secret token==1",
            "install -i https://****@host/?code=**** token==1",
        ),
        ("install --key=1 keyring==2", "install --key=1 keyring==2"),
    ],
)
def test_a_command_line_that_is_kept(words, kept):
    assert " ".join(redact_words(words.split())) == kept
    assert redact_words(kept.split()) == kept.split()


@pytest.mark.parametrize("url", ["https://${TOKEN}@h/x", "https://${USER}:${TOKEN}@h/x"])
def test_names_of_variables_are_no_secrets(url):
    assert redact(url) == url
    assert redact("https://${USER}:secret@h/x") == "https://****@h/x"
