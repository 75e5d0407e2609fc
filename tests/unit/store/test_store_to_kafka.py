"""The properties of a producer, as a file has them."""

import pytest

from pipewright.store import to_kafka


def test_a_file_has_a_property_on_a_line() -> None:
    text = "# of the platform team\n\nsecurity.protocol = SASL_SSL\nsasl.password=a=b # c \n"
    assert to_kafka.properties(text) == {"security.protocol": "SASL_SSL", "sasl.password": "a=b # c"}


@pytest.mark.parametrize("line", ["s3cret", "=s3cret"])
def test_a_line_that_is_none_is_named_and_not_shown(line: str) -> None:
    with pytest.raises(to_kafka.PropertyError, match="line 2 must be name=value") as refused:
        to_kafka.properties(f"a=b\n{line}")
    assert "s3cret" not in str(refused.value)


def test_what_the_command_says_is_not_for_the_file() -> None:
    with pytest.raises(to_kafka.PropertyError, match="acks is not one for the file: it is all"):
        to_kafka.Topic("127.0.0.1:1", "ci", properties={"acks": "1"})


@pytest.mark.parametrize("name", ["no.such.property", "security.protocol"])
def test_a_property_that_is_none_is_named_without_its_value(name: str) -> None:
    with pytest.raises(to_kafka.PropertyError, match=name) as refused:
        to_kafka.Topic("127.0.0.1:1", "ci", properties={name: "s3cret"})
    assert "s3cret" not in str(refused.value)
