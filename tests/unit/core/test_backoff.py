from reflow.core.backoff import Backoff


def test_waits_grow_up_to_a_limit() -> None:
    assert list(Backoff(1.0, 5.0, 2.0, 5).waits_s()) == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_chance_takes_a_part() -> None:
    policy = Backoff(10.0, 30.0, 1.2, 40, jitter=0.2)
    assert policy.wait_s(0, 1.0) == 8.0
    assert policy.wait_s(0, 0.5) == 9.0


def test_there_is_no_overflow() -> None:
    assert Backoff(1.0, 60.0, 2.0, 10**6).wait_s(10**5) == 60.0
