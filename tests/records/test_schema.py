"""The schema of records: valid itself, read alike by two validators, and what the docs say."""

import json
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from record_examples import EXAMPLES, damaged

from pytest_diffspeed.records.document import BEGIN, END, tables, written_into
from pytest_diffspeed.records.schema import fits, kinds, schema

DOCUMENT = Path(__file__).parents[2] / "docs" / "records.md"


def whole(kind, content):
    return {"schema": "diffspeed/1", "kind": kind, **content}


def test_the_schema_is_a_json_schema():
    jsonschema.Draft7Validator.check_schema(schema())  # raises where it is none
    assert not jsonschema.Draft7Validator(schema()).is_valid({"kind": 1})


def test_there_is_an_example_of_each_kind_here():
    assert set(EXAMPLES) == kinds()
    named = {name for name in schema()["definitions"] if name in kinds()}
    assert named == kinds()


@pytest.mark.parametrize("kind", sorted(EXAMPLES))
def test_an_example_fits_and_lacks_nothing_it_needs(kind):
    record = whole(kind, EXAMPLES[kind])
    jsonschema.validate(record, schema(), jsonschema.Draft7Validator)
    assert fits(kind, record)
    for name in schema()["definitions"][kind]["required"]:
        lacking = {field: value for field, value in record.items() if field != name}
        assert not fits(kind, lacking)


@given(damaged())
@settings(max_examples=300)
def test_two_validators_agree(drawn):
    kind, record = drawn
    validator = jsonschema.Draft7Validator(schema())
    assert fits(kind, record) == validator.is_valid(whole(kind, record))


def test_every_kind_and_field_is_documented():
    """`python -m pytest_diffspeed.records.document docs/records.md` writes the tables again."""
    text = DOCUMENT.read_text(encoding="utf-8")
    assert written_into(text) == text
    assert all(f"### `{kind}`" in text for kind in kinds())
    for definition in schema()["definitions"].values():
        for name, field in definition.get("properties", {}).items():
            assert field.get("description") or "$ref" in field, name


def test_a_document_without_a_place_for_the_tables():
    with pytest.raises(ValueError, match="must hold"):
        written_into("nothing")
    assert tables() in written_into(f"a{BEGIN}old{END}b")


def test_the_example_in_the_document_fits():
    text = DOCUMENT.read_text(encoding="utf-8")
    record = json.loads(text.partition("```json\n")[2].partition("\n```")[0])
    assert fits(record["kind"], record)
