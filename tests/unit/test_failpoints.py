import errno

import pytest

from stoker.supervisor import failpoints


def test_every_point_says_what_has_and_has_not_happened():
    points = failpoints.list_points()
    assert all(description and not description.endswith(".") for description in points.values())
    assert "checkpoint.rename.before" in points


def test_rules_are_read_with_action_value_and_count():
    rules = failpoints.parse("checkpoint.rename.before:kill@2, checkpoint.weights.write:delay=0.5")
    assert rules["checkpoint.rename.before"] == [failpoints.Rule("checkpoint.rename.before", "kill", 0.0, 2)]
    assert rules["checkpoint.weights.write"] == [failpoints.Rule("checkpoint.weights.write", "delay", 0.5, 0)]
    assert not failpoints.parse("")


@pytest.mark.parametrize(
    "text", ["no.such.point:kill", "checkpoint.begin", "checkpoint.begin:explode", "checkpoint.begin:delay"]
)
def test_what_does_not_exist_is_refused(text):
    with pytest.raises(ValueError, match="STOKER_FAILPOINTS"):
        failpoints.parse(text)


@pytest.mark.parametrize(("action", "number"), [("enospc", errno.ENOSPC), ("eio", errno.EIO)])
def test_an_error_happens_at_the_named_hit_only(action, number, monkeypatch):
    monkeypatch.setattr(failpoints, "_rules", failpoints.parse(f"checkpoint.begin:{action}@2"))
    monkeypatch.setattr(failpoints, "_hits", {})
    failpoints.hit("checkpoint.begin")
    with pytest.raises(OSError, match=r"checkpoint\.begin") as raised:
        failpoints.hit("checkpoint.begin")
    assert raised.value.errno == number
    failpoints.hit("checkpoint.begin")


def test_an_unregistered_point_is_noticed_when_points_are_on(monkeypatch):
    failpoints.hit("unknown while off costs nothing")
    monkeypatch.setattr(failpoints, "_rules", failpoints.parse("checkpoint.begin:kill"))
    with pytest.raises(ValueError, match=r"failpoints\.POINTS"):
        failpoints.hit("unknown")
