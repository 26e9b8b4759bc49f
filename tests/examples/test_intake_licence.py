"""The licence agent of the dependency intake: which licence a text is, and how sure that is."""

from __future__ import annotations

import pytest
from identify.identify import license_id
from identify.vendor.licenses import LICENSES

from expressions import licences_in, names_text, weigh
from installed_here import distributions
from reader import licence_files
from texts import Match, identify

TEXTS = dict(LICENSES)


@pytest.mark.parametrize("licence", TEXTS)
def test_every_known_text_is_itself(licence: str) -> None:
    """With certainty, though BSD's and the GPL's have long stretches in common."""
    assert identify(TEXTS[licence]) == Match(licence, 1.0)


def test_reflowing_and_whose_it_is_change_nothing() -> None:
    """Line breaks, capitals and the copyright line say nothing about which licence it is."""
    text = "Copyright (c) 1999 Somebody Else <else@example.org>\n\n" + " ".join(
        TEXTS["BSD-3-Clause"].upper().split()[6:]
    )
    assert identify(text).licence == "BSD-3-Clause"
    assert identify(text).similarity > 0.95


def test_a_text_with_other_wording_is_less_sure() -> None:
    """One clause left out of MIT's is still nearest to MIT, but not what it was."""
    sentences = TEXTS["MIT"].split("\n\n")
    match = identify("\n\n".join(sentences[:3]))
    assert match.licence == "MIT"
    assert 0.5 < match.similarity < 0.9


@pytest.mark.parametrize("text", ["", "All rights reserved.", "Ask us about prices: sales@example.org", "the " * 5_000])
def test_a_text_that_is_no_licence_has_no_name(text: str) -> None:
    """The nearest name would only mislead."""
    assert identify(text).licence is None


def test_a_licence_with_more_behind_it_is_known_by_its_opening() -> None:
    """Packages append the texts of vendored code; which comes first is the package's own."""
    match = identify(TEXTS["MIT"] + "\n\nThis product includes other software:\n\n" + TEXTS["Apache-2.0"])
    assert match == Match("MIT", match.similarity, opening=True)
    assert match.similarity > 0.95


def test_expressions_are_read_as_spdx_says() -> None:
    """AND takes the worst of its licences, OR the best; ids are brought into SPDX's own form."""
    verdicts = {"MPL-2.0": 2, "Apache-2.0": 0, "MIT": 0, "GPL-2.0-only": 3}
    assert weigh("MPL-2.0 AND (apache-2.0 OR MIT)", verdicts.__getitem__) == 2
    assert weigh("GPL-2.0 OR MIT", verdicts.__getitem__) == 0
    assert weigh("BSD, see file AND", verdicts.__getitem__) is None
    assert licences_in("GPL-2.0 WITH Classpath-exception-2.0") == {"GPL-2.0-only WITH Classpath-exception-2.0"}


def test_only_and_or_later_have_one_text() -> None:
    """So the text of GPL-2.0 agrees with either, and never with another version."""
    assert names_text("GPL-2.0-or-later", "GPL-2.0")
    assert names_text("GPL-2.0-only WITH Classpath-exception-2.0", "GPL-2.0")
    assert not names_text("GPL-3.0-or-later", "GPL-2.0")


def test_identify_and_we_agree_on_every_installed_licence_file() -> None:
    """`identify` answers yes or no by edit distance; wherever it is sure of a whole file, so are we, of the same."""
    judged = [path for folder in distributions() for path in licence_files(folder, [])]
    theirs = {path: license_id(str(path)) for path in judged}
    ours = {path: identify(path.read_text()).licence for path in judged}
    assert {path: ours[path] for path in judged if theirs[path]} == {path: id for path, id in theirs.items() if id}
    assert len(judged) > 20
