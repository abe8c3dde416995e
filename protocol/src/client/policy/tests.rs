//! The rules, without a socket, a clock or a wait.

use super::*;
use crate::client::{Address, Failure, RetryBudget};

fn failure(code: FailureCode, retry_safe: bool, retry_after: Option<Duration>) -> Failed {
    let failure = Failure { code, message: String::new(), retry_after, retry_safe, load: 50 };
    Failed { stage: Stage::Asked, error: CallError::Failure(failure) }
}

fn busy(retry_after: u64) -> Failed {
    failure(FailureCode::OVERLOADED, true, Some(Duration::from_millis(retry_after)))
}

fn address() -> Address {
    "tcp://host:1".parse().unwrap()
}

fn unreachable() -> Failed {
    let error = CallError::Unreachable { address: address(), reason: String::new() };
    Failed { stage: Stage::Connecting, error }
}

fn lost() -> Failed {
    let error = CallError::ConnectionLost { address: address(), reason: String::new() };
    Failed { stage: Stage::Asked, error }
}

fn wish(retry: Retry, deadline: Option<Duration>) -> Wish {
    Wish { retry, deadline, attempts_max: 4 }
}

fn policy(addresses: usize) -> Policy {
    Policy::new(addresses, &Options::named("test"), Rng::with_seed(3))
}

/// What one failure of the only daemon leads to.
fn waits(retry: Retry, failed: &Failed) -> bool {
    let (mut policy, now) = (policy(1), Instant::now());
    let mut attempts = policy.begin(wish(retry, None), now);
    let index = policy.enter(&attempts, now);
    policy.failed(&mut attempts, index, failed, now).is_some()
}

/// W-73
#[test]
fn only_what_was_certainly_not_started_is_tried_again_unless_pure_and_lost() {
    let started = failure(FailureCode::OVERLOADED, false, None);
    let cut_short = failure(FailureCode::CANCELLED, false, None);
    let never_begun = failure(FailureCode::CANCELLED, true, None);
    for (failed, safe, pure) in [
        (&busy(0), true, true),
        (&never_begun, true, true),
        (&unreachable(), true, true),
        (&lost(), false, true),
        (&cut_short, false, true),
        // It was worked on and there was no room for the result: once more would be more of the same load.
        (&started, false, false),
    ] {
        assert!(!waits(Retry::Never, failed), "{}", failed.error);
        assert_eq!(waits(Retry::Safe, failed), safe, "{}", failed.error);
        assert_eq!(waits(Retry::Pure, failed), pure, "{}", failed.error);
    }
}

#[test]
fn a_failure_that_would_come_again_is_final() {
    for code in [FailureCode::INVALID_PARAMETER, FailureCode::DEADLINE_EXCEEDED, FailureCode::INTERNAL] {
        assert!(!waits(Retry::Pure, &failure(code, true, None)), "{code}");
    }
    let broken = CallError::Protocol { address: address(), reason: String::new() };
    assert!(!waits(Retry::Pure, &Failed { stage: Stage::Asked, error: broken }));
}

#[test]
fn attempts_are_bounded_whatever_they_cost() {
    for failed in [busy(0), unreachable(), failure(FailureCode::DRAINING, true, None)] {
        let (mut policy, now) = (policy(1), Instant::now());
        let mut attempts = policy.begin(wish(Retry::Safe, None), now);
        let repeated = std::iter::from_fn(|| policy.failed(&mut attempts, 0, &failed, now)).count();
        assert_eq!(repeated, 3, "{}", failed.error);
    }
}

/// W-74
#[test]
fn retry_after_is_the_least_time_and_is_spread_by_jitter() {
    let (mut policy, now) = (policy(1), Instant::now());
    let first = policy.options.backoff.first;
    let asked = Duration::from_secs(3);
    let waits: Vec<_> = (0..10)
        .map(|_| {
            let mut attempts = policy.begin(wish(Retry::Safe, Some(Duration::from_secs(10))), now);
            policy.failed(&mut attempts, 0, &busy(3000), now).unwrap()
        })
        .collect();
    assert!(waits.iter().all(|wait| (asked..=asked + first).contains(wait)), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait != waits[0]), "{waits:?}");
}

#[test]
fn no_attempt_begins_beyond_the_deadline_and_each_asks_for_what_is_left() {
    let (mut policy, now) = (policy(1), Instant::now());
    let deadline = Duration::from_secs(2);
    let mut attempts = policy.begin(wish(Retry::Safe, Some(deadline)), now);
    assert_eq!(policy.failed(&mut attempts, 0, &busy(2000), now), None);
    let mut attempts = policy.begin(wish(Retry::Safe, Some(deadline)), now);
    let wait = policy.failed(&mut attempts, 0, &busy(1500), now).unwrap();
    assert_eq!(attempts.remaining(now + wait), Some(deadline - wait));
    assert_eq!(attempts.remaining(now + deadline * 2), Some(Duration::ZERO));
    // Without a deadline the client's own patience is the end.
    let patience = policy.options.answer_timeout;
    let mut attempts = policy.begin(wish(Retry::Safe, None), now);
    assert_eq!(
        policy.failed(&mut attempts, 0, &busy(60_000), now + patience - Duration::from_secs(59)),
        None
    );
}

/// How many requests a daemon that refuses all of them sees, when `calls` are made one after the other.
fn seen(options: &Options, calls: u32, failed: &Failed) -> u32 {
    let (mut policy, now) = (Policy::new(1, options, Rng::with_seed(3)), Instant::now());
    let mut seen = 0;
    for _ in 0..calls {
        let mut attempts = policy.begin(wish(Retry::Pure, None), now);
        loop {
            let index = policy.enter(&attempts, now);
            seen += 1;
            policy.leave(index);
            if policy.failed(&mut attempts, index, failed, now).is_none() {
                break;
            }
        }
    }
    seen
}

#[test]
fn a_daemon_that_refuses_everything_is_not_asked_much_more_for_it() {
    let mut options = Options::named("test");
    let refused = seen(&options, 1000, &busy(1));
    assert!((1100..=1110).contains(&refused), "{refused}");
    assert!((1100..=1110).contains(&seen(&options, 1000, &lost())));
    // Nobody has worked on what a leaving daemon did not accept; its attempts alone are bounded.
    assert_eq!(seen(&options, 1000, &failure(FailureCode::DRAINING, true, None)), 4000);
    options.retry_budget = RetryBudget { percent: 0, burst: 0 };
    assert_eq!(seen(&options, 1000, &busy(1)), 1000);
}

#[test]
fn what_one_daemon_refused_goes_to_another_at_once_and_back_when_both_did() {
    let (mut policy, now) = (policy(2), Instant::now());
    let mut attempts = policy.begin(wish(Retry::Safe, Some(Duration::from_secs(9))), now);
    let first = policy.enter(&attempts, now);
    assert_eq!(policy.failed(&mut attempts, first, &busy(1000), now), Some(Duration::ZERO));
    policy.leave(first);
    let second = policy.enter(&attempts, now);
    assert_ne!(second, first);
    let wait = policy.failed(&mut attempts, second, &busy(4000), now).unwrap();
    policy.leave(second);
    assert!((Duration::from_secs(1)..Duration::from_secs(2)).contains(&wait), "{wait:?}");
    assert_eq!(policy.enter(&attempts, now + wait), first, "it may come back there first");
}

#[test]
fn new_calls_pass_over_who_refused_until_its_rest_is_over() {
    let (mut policy, now) = (policy(2), Instant::now());
    let mut refused = policy.begin(wish(Retry::Safe, None), now);
    policy.failed(&mut refused, 0, &busy(1000), now);
    let chosen = |policy: &mut Policy, at| -> Vec<usize> {
        (0..50)
            .map(|_| {
                let attempts = policy.begin(wish(Retry::Safe, None), at);
                let index = policy.enter(&attempts, at);
                policy.leave(index);
                index
            })
            .collect()
    };
    assert!(chosen(&mut policy, now).iter().all(|index| *index == 1));
    // Ten seconds later neither its rest nor its load says anything.
    let counts = chosen(&mut policy, now + Duration::from_secs(10));
    assert!(counts.contains(&0) && counts.contains(&1), "{counts:?}");
    // Where all rest, a new call waits for none of them and asks the one whose rest ends first.
    let mut refused = policy.begin(wish(Retry::Safe, None), now);
    policy.failed(&mut refused, 1, &busy(500), now);
    assert!(chosen(&mut policy, now).iter().all(|index| *index == 1));
}

#[test]
fn addresses_that_cannot_be_reached_are_each_tried_before_one_counts() {
    let (mut policy, now) = (policy(6), Instant::now());
    let mut attempts = policy.begin(wish(Retry::Never, Some(Duration::from_secs(9))), now);
    let mut tried = Vec::new();
    loop {
        let index = policy.enter(&attempts, now);
        policy.leave(index);
        tried.push(index);
        match policy.failed(&mut attempts, index, &unreachable(), now) {
            Some(wait) => assert_eq!(wait, Duration::ZERO),
            None => break,
        }
    }
    tried.sort_unstable();
    assert_eq!(tried, [0, 1, 2, 3, 4, 5], "each once, although nothing may be repeated");
}

#[test]
fn an_address_that_was_not_tried_goes_before_one_that_cannot_be_reached_even_while_it_rests() {
    let (mut policy, now) = (policy(2), Instant::now());
    let mut refused = policy.begin(wish(Retry::Safe, None), now);
    policy.failed(&mut refused, 1, &busy(1000), now);
    let mut attempts = policy.begin(wish(Retry::Never, None), now);
    assert_eq!(policy.enter(&attempts, now), 0);
    assert_eq!(policy.failed(&mut attempts, 0, &unreachable(), now), Some(Duration::ZERO));
    assert_eq!(policy.enter(&attempts, now + Duration::from_millis(100)), 1);
}

#[test]
fn a_request_that_may_not_be_repeated_goes_nowhere_else_once_it_was_sent() {
    let (mut policy, now) = (policy(2), Instant::now());
    let mut attempts = policy.begin(wish(Retry::Never, None), now);
    let index = policy.enter(&attempts, now);
    assert_eq!(policy.failed(&mut attempts, index, &busy(1), now), None);
    let mut attempts = policy.begin(wish(Retry::Safe, None), now);
    let index = policy.enter(&attempts, now);
    assert_eq!(policy.failed(&mut attempts, index, &lost(), now), None);
}

#[test]
fn connecting_keeps_half_of_the_time_for_another_address() {
    let now = Instant::now();
    for (addresses, expected) in [(1, 5000), (2, 500)] {
        let mut policy = policy(addresses);
        let attempts = policy.begin(wish(Retry::Safe, Some(Duration::from_secs(1))), now);
        assert_eq!(policy.connect_patience(&attempts, now), Duration::from_millis(expected));
    }
}
