import torch

from levelset import report


def certified(audit, share=0.25):
    audit.columns["certified_inf"] = share * torch.ones(len(audit)) * audit.columns["correct"]
    return audit


def section_of(audits):
    return {section.title: section for section in report.audit(audits)}


def test_an_audit_with_certificates_has_a_card_and_a_section(make_audit):
    assert "Certified radii" not in section_of(make_audit())
    audit = certified(make_audit())
    sections = section_of(audit)
    right = int(audit.columns["correct"].sum())
    text = sections["Certified radii"].text
    assert f"{right} of {right} inputs classified right have one above 0" in text
    assert "Median certified radius, L∞" in sections["At a glance"].content.markup
    assert "0.25" in sections["At a glance"].content.markup


def test_the_share_of_the_distance_is_said_where_both_are_measured(make_audit):
    audit = certified(make_audit())
    audit.columns["distance_inf"] = torch.full((len(audit),), 0.5)
    assert "at the median it is 50\u00a0% of the distance found" in section_of(audit)[
        "Certified radii"
    ].text  # fmt: skip


def test_several_models_have_an_outline_and_a_line_each(make_audit):
    audits = [certified(make_audit(name="one")), certified(make_audit(name="two"), 0.5)]
    section = section_of(audits)["Certified radii"]
    assert [trace.name for trace in section.content.data] == ["one", "two"]
    assert "“one”" in section.text
    assert "“two”" in section.text


def test_nothing_certain_is_said_so(make_audit):
    audit = certified(make_audit(), 0.0)
    right = int(audit.columns["correct"].sum())
    assert f"0 of {right} inputs classified right" in section_of(audit)["Certified radii"].text


def test_what_is_certain_everywhere_is_counted(make_audit):
    audit = certified(make_audit())
    first = int(audit.columns["correct"].nonzero()[0])
    audit.columns["certified_inf"][first] = torch.inf
    card = section_of(audit)["At a glance"].content.markup
    assert "without the 1 within whose bounds there is no other class" in card
