//! Identical requests in flight run once, where the operator asks for it, and each is answered for itself.

use serde_json::Value;
use windlass_protocol::FailureCode;
use windlass_tests::raw::{self, Raw};
use windlass_tests::{Daemon, Gate, http};

/// Jobs of an operation that ran, and those that shared what another came to.
fn ran_and_shared(status: &Value, operation: &str) -> (u64, u64) {
    let of = |name: &str| status["operations"][operation][name].as_u64().unwrap();
    (of("done") - of("shared"), of("shared"))
}

#[test]
fn identical_requests_that_are_queued_together_run_once() {
    for threads in ["1", "2"] {
        let daemon = Daemon::start(&[("operations.hash.coalesce", "true"), ("cpu.threads", threads)]);
        let gate = Gate::hold(&daemon);
        let mut connections: Vec<Raw> = (0..10).map(|_| Raw::open(daemon.host_port())).collect();
        for connection in &mut connections {
            connection.send(&raw::work(1, "hash", &[("algorithm", "crc32c")], b"123456789"));
            connection.send(&raw::work(2, "hash", &[("algorithm", "crc32c")], b"another"));
            connection.send(&raw::work(3, "hash", &[("algorithm", "xxh3")], b"123456789"));
        }
        daemon.wait_for_status("all wait", |status| status["queue"]["waiting"] == 30);
        gate.release();
        for connection in &mut connections {
            let mut answers: Vec<_> = (0..3).map(|_| connection.frame().unwrap()).collect();
            answers.sort_by_key(|frame| frame.id);
            assert_eq!(answers[0].body, b"e3069283");
            assert_ne!(answers[1].body, answers[0].body);
            assert_ne!(answers[2].body, answers[0].body, "other parameters, another result");
        }
        let status = daemon.status();
        assert_eq!(ran_and_shared(&status, "hash"), (3, 27), "{threads} threads: {status}");
        daemon.wait_for_status("the results that were kept are forgotten", |status| {
            status["queue"]["admitted"] == 0 && status["queue"]["held_bytes"] == 0
        });
    }
}

#[test]
fn cancel_of_one_does_not_cancel_the_others() {
    let daemon = Daemon::start(&[("operations.spin.coalesce", "true"), ("cpu.threads", "2")]);
    let spin = |id| raw::work(id, "spin", &[("for", "3s")], b"");
    let mut leader = Raw::open(daemon.host_port());
    leader.send(&spin(1));
    daemon.wait_until_running("spin", 1);
    let mut followers: Vec<Raw> = (0..3).map(|_| Raw::open(daemon.host_port())).collect();
    followers.iter_mut().for_each(|follower| follower.send(&spin(1)));
    daemon.wait_for_status("they wait beside it", |status| {
        status["queue"]["admitted"] == 4 && status["queue"]["waiting"] == 0
    });
    followers[0].send(&raw::cancel(1));
    leader.send(&raw::cancel(1));
    for gone in [&mut leader, &mut followers[0]] {
        assert_eq!(gone.frame().unwrap().failure().map(|(code, ..)| code), Some(FailureCode::CANCELLED));
    }
    for follower in &mut followers[1..] {
        assert!(follower.frame().unwrap().failure().is_none());
    }
    let status = daemon.wait_for_status("all are out", |status| status["queue"]["admitted"] == 0);
    assert_eq!(ran_and_shared(&status, "spin"), (1, 1), "{status}");
}

/// With `queue.max_wait` below what the work takes.
fn leader_and_follower() -> (Daemon, Raw, Raw) {
    let daemon = Daemon::start(&[
        ("operations.spin.coalesce", "true"),
        ("cpu.threads", "2"),
        ("queue.max_wait", "300ms"),
    ]);
    let [mut leader, mut follower] = [(); 2].map(|()| Raw::open(daemon.host_port()));
    leader.send(&raw::work(1, "spin", &[("for", "3s")], b""));
    daemon.wait_until_running("spin", 1);
    follower.send(&raw::work(1, "spin", &[("for", "3s")], b""));
    daemon.wait_for_status("it waits beside the leader", |status| {
        status["queue"]["admitted"] == 2 && status["queue"]["waiting"] == 0
    });
    (daemon, leader, follower)
}

#[test]
fn who_waits_beside_a_run_waits_for_no_worker() {
    let (daemon, mut leader, mut follower) = leader_and_follower();
    let by_http = std::thread::spawn({
        let address = daemon.http().to_owned();
        move || http::ask(&address, "POST /v1/call/spin?for=3s", b"").status
    });
    daemon.wait_for_status("so does one who came by HTTP", |status| {
        status["queue"]["admitted"] == 3 && status["queue"]["waiting"] == 0
    });
    for connection in [&mut leader, &mut follower] {
        assert_eq!(connection.frame().unwrap().failure(), None);
    }
    assert_eq!(by_http.join().unwrap(), 200);
    assert_eq!(ran_and_shared(&daemon.status(), "spin"), (1, 2));
}

#[test]
fn who_waited_beside_a_run_that_came_to_nothing_is_not_refused_for_it() {
    let (daemon, mut leader, mut follower) = leader_and_follower();
    let mut clock = Raw::open(daemon.host_port());
    clock.send(&raw::work(1, "echo", &[("delay", "400ms")], b""));
    assert_eq!(clock.frame().unwrap().failure(), None, "more than queue.max_wait has passed");
    leader.send(&raw::cancel(1));
    assert_eq!(leader.frame().unwrap().failure().map(|(code, ..)| code), Some(FailureCode::CANCELLED));
    assert_eq!(follower.frame().unwrap().failure(), None);
    assert_eq!(ran_and_shared(&daemon.status(), "spin"), (1, 0));
}

#[test]
fn a_failure_is_shared_with_nobody() {
    let daemon = Daemon::start(&[("operations.decompress.coalesce", "true"), ("cpu.threads", "1")]);
    let gate = Gate::hold(&daemon);
    let mut connections: Vec<Raw> = (0..3).map(|_| Raw::open(daemon.host_port())).collect();
    for connection in &mut connections {
        connection.send(&raw::work(1, "decompress", &[("algorithm", "zstd")], b"not zstd"));
    }
    gate.release();
    for connection in &mut connections {
        let failure = connection.frame().unwrap().failure();
        assert_eq!(failure.map(|(code, ..)| code), Some(FailureCode::INVALID_INPUT));
    }
    assert_eq!(daemon.status()["operations"]["decompress"]["failed"], 3);
}

#[test]
fn without_the_key_everything_runs() {
    let daemon = Daemon::start(&[("cpu.threads", "1")]);
    let gate = Gate::hold(&daemon);
    let mut connection = Raw::open(daemon.host_port());
    for id in 1..=5 {
        connection.send(&raw::work(id, "hash", &[], b"abc"));
    }
    gate.release();
    for _ in 1..=5 {
        assert!(connection.frame().unwrap().failure().is_none());
    }
    assert_eq!(ran_and_shared(&daemon.status(), "hash"), (5, 0));
}
