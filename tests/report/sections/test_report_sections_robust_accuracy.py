import math

import torch

from levelset import report
from levelset.auditing._measure import Radius


def attacked(audit, *sizes):
    radii = tuple(Radius(math.inf, size) for size in sizes)
    for place, radius in enumerate(radii):
        stands = audit.columns["correct"] & (torch.arange(len(audit)) >= 10 * (place + 1))
        audit.columns[f"robust_{radius}"] = stands
        broken = torch.where(audit.columns["correct"] & ~stands, 1 + place, -1)
        audit.columns[f"broken_by_{radius}"] = broken
    audit.settings["radii"] = radii
    return audit


def section_of(audits):
    return {section.title: section for section in report.audit(audits)}


def test_an_audit_with_radii_has_cards_a_sentence_and_a_section(make_audit):
    assert "Robust accuracy" not in section_of(make_audit())
    sections = section_of(attacked(make_audit(), 0.3, 8 / 255))
    glance, table = sections["At a glance"], sections["Robust accuracy"].content.markup
    assert "66.7\u00a0% withstand every attack within L∞ 0.3." in glance.text
    assert "Robust accuracy, L∞ 0.0314" in glance.content.markup
    assert "20 of 30 inputs" in table
    assert "10 of 30 inputs" in table
    assert "pgd 8" in table
    assert "direct_boundary 18" in table


def test_models_stand_side_by_side_at_the_radii_they_share(make_audit):
    audits = [attacked(make_audit(name="one"), 0.3), attacked(make_audit(name="two"), 0.3, 0.4)]
    sections = section_of(audits)
    assert sections["At a glance"].content.markup.count("Robust accuracy, L∞ 0.3</th>") == 1
    assert "Robust accuracy, L∞ 0.4</th>" not in sections["At a glance"].content.markup
    assert sections["Robust accuracy"].content.markup.count("<tr>") == 4
