"""A gate's answer as JUnit's XML, which build servers show."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from antiphon.bus.gate import Pair, Verdict


def junit(verdict: Verdict) -> str:
    """Write a case for each reader of each writer: passed, failed with the problems, or skipped where nobody knows."""
    suite = ET.Element(
        "testsuite",
        name="antiphon schema check",
        tests=str(len(verdict.pairs)),
        failures=str(sum(bool(pair.problems) for pair in verdict.pairs)),
        skipped=str(sum(not pair.known and not pair.problems for pair in verdict.pairs)),
    )
    for pair in verdict.pairs:
        _case(suite, pair)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ET.Element, pair: Pair) -> None:
    name = _legal(f"{pair.reader} reads what {pair.writer} writes")
    case = ET.SubElement(suite, "testcase", classname=_legal(pair.type), name=name)
    if pair.problems:
        told = [f"{one.path or 'the event'}: {one.message}\n{one.remedy}" for one in pair.problems]
        failure = ET.SubElement(
            case, "failure", message=_legal(pair.problems[0].message), type=pair.problems[0].kind.value
        )
        failure.text = _legal("\n".join(told))
    elif not pair.known:
        ET.SubElement(case, "skipped", message="nobody has told with which schema")


def _legal(text: str) -> str:
    """Take out what XML has no way to say."""
    return "".join(sign if sign in "\n\t" or sign.isprintable() else "?" for sign in text)
