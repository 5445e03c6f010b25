"""docs/settings.md, and how values are spelled."""

import pathlib

from seal_jax.settings import config_dict, reference

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "settings.md"


def test_the_page_is_what_the_docstrings_say():
    """`python -m seal_jax.settings.reference > docs/settings.md` writes it again."""
    assert PAGE.read_text(encoding="utf-8") == reference.page() + "\n"


def test_defaults_are_spelled_as_a_command_line_takes_them():
    for group in reference.groups():
        for of in group.settings:
            text = "" if of.default == '""' else of.default
            value = config_dict.parsed(of.key, text)
            assert reference.spelled(value) == of.default, of.key


def test_a_class_has_what_its_bases_say_of_their_attributes():
    class Base:
        """Things.

        Attributes:
          one, two: of the base, on
            two lines.
        """

    class Derived(Base):
        """Other things.

        More about them.

        Attributes:
          two: its own.

        >>> "three: is none"
        """

    found = reference.attributes(Derived)
    assert found == {"one": "of the base, on two lines.", "two": "its own."}
    assert reference.about(Derived) == "Other things.\n\nMore about them."
