//! Clients of daemons that are busy, leaving or gone: what is tried again, where, and how often.

use std::net::TcpListener;
use std::time::Duration;

use rustix::process::Signal;
use windlass_protocol::client::pipelined::Client;
use windlass_protocol::client::{
    Address, Addresses, Backoff, CallError, Options, Request, Retry, RetryBudget, blocking,
};
use windlass_protocol::{FailureCode, Header};
use windlass_tests::raw::{self, Raw};
use windlass_tests::{Daemon, Gate, PATIENCE, eventually, windlass};

/// Calls that are made where many are needed.
const CALLS: u64 = 200;

fn options() -> Options {
    let backoff = Backoff { first: Duration::from_millis(1), longest: Duration::from_secs(1) };
    Options { answer_timeout: PATIENCE, backoff, ..Options::named("suites") }
}

fn address(daemon: &Daemon) -> Address {
    daemon.address().parse().unwrap()
}

fn both(one: Address, other: Address) -> Addresses {
    Addresses::new([one, other]).unwrap()
}

/// An address where nobody listens; bound, so that nobody else is given it.
fn dead() -> (TcpListener, Address) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
    let listener = TcpListener::from(socket);
    let address = format!("tcp://{}", listener.local_addr().unwrap()).parse().unwrap();
    (listener, address)
}

/// A daemon whose only worker is busy and whose queue is full: whatever else comes is refused, until the connection
/// cancels its first request.
fn saturated() -> (Daemon, Raw) {
    saturated_for("20s")
}

/// The same for so long at most, a quarter of which is what it says to those whom it refuses.
fn saturated_for(time: &str) -> (Daemon, Raw) {
    let daemon = Daemon::start(&[("cpu.threads", "1"), ("queue.capacity", "1")]);
    let mut occupant = Raw::open(daemon.host_port());
    occupant.send(&raw::work(1, "spin", &[("for", time)], b""));
    daemon.wait_until_running("spin", 1);
    occupant.send(&raw::work(2, "spin", &[("for", "1ms")], b""));
    daemon.wait_for_status("its queue is full", |status| status["queue"]["waiting"] == 1);
    (daemon, occupant)
}

/// Requests for an operation that the daemon has answered, by outcome or in all.
fn seen(daemon: &Daemon, operation: &str, outcome: Option<&str>) -> u64 {
    let status = daemon.status();
    let Some(outcomes) = status["requests"][operation].as_object() else { return 0 };
    let counted = outcomes.iter().filter(|(name, _)| outcome.is_none_or(|outcome| outcome == *name));
    counted.map(|(_, count)| count.as_u64().unwrap()).sum()
}

fn is_overloaded(error: &CallError) -> bool {
    matches!(error, CallError::Failure(failure) if failure.code == FailureCode::OVERLOADED)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_call_is_done_when_there_is_room() {
    let (daemon, mut occupant) = saturated();
    let budget = RetryBudget { percent: 0, burst: 100_000 };
    let options = Options { attempts_max: 100_000, retry_budget: budget, ..options() };
    let client = Client::connect(address(&daemon), options).await.unwrap();
    let call = tokio::spawn({
        let client = client.clone();
        async move { client.call(&Request::new("hash").body("abc").deadline(PATIENCE)).await }
    });
    daemon.wait_for_status("it is refused", |status| {
        status["requests"]["hash"]["overloaded"].as_u64().is_some_and(|count| count > 0)
    });
    occupant.send(&raw::cancel(1));
    assert_eq!(call.await.unwrap().unwrap().body.len(), 64);
}

/// Frees the daemon once it has refused one `hash`, and sees that it has nothing to do then.
fn free_after_a_refusal(daemon: &Daemon, occupant: &mut Raw) {
    daemon.wait_for_status("it is refused", |status| status["requests"]["hash"]["overloaded"] == 1);
    occupant.send(&raw::cancel(1));
    daemon.wait_for_status("there is room", |status| status["queue"]["admitted"] == 0);
}

/// The daemon is idle for all of that time; who came too early would be served too early. Three ways to call, each
/// with a daemon of its own.
#[test]
fn a_refused_call_comes_again_when_the_daemon_says_and_not_before() {
    let deadline = Duration::from_secs(60);
    let hash = || Request::new("hash").body("abc").deadline(deadline);
    let patient = || Options { attempts_max: 2, ..options() };
    let pipelined = |address: Address| {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let client = Client::connect(address, patient()).await.unwrap();
            client.call(&hash()).await.unwrap().body.len()
        })
    };
    let blocking = |address: Address| {
        blocking::Client::connect(address, patient()).unwrap().call(&hash()).unwrap().body.len()
    };
    let program = |address: Address| {
        let arguments = ["call", "hash", "--retries", "1", "--deadline", "60s"];
        windlass(&address.to_string(), &arguments, b"abc").ok().text().trim_end().len()
    };
    let ways: [&(dyn Fn(Address) -> usize + Sync); 3] = [&pipelined, &blocking, &program];
    std::thread::scope(|scope| {
        for way in ways {
            scope.spawn(move || {
                let (daemon, mut occupant) = saturated_for("8s");
                // What waits and runs does not change, so that everybody is told the same.
                occupant.send(&raw::work(3, "echo", &[], b""));
                let refused = occupant.frame().unwrap();
                let told = windlass_protocol::Failure::decode(&refused.header).unwrap().retry_after.unwrap();
                assert!(told > 1000, "{told} ms: long enough to see who does not wait");
                let address = address(&daemon);
                let call = scope.spawn(move || {
                    let began = std::time::Instant::now();
                    let length = way(address);
                    (length, began.elapsed())
                });
                free_after_a_refusal(&daemon, &mut occupant);
                let (length, took) = call.join().unwrap();
                assert_eq!(length, 64);
                assert!(took >= Duration::from_millis(told), "{took:?} although told {told} ms");
                assert_eq!(seen(&daemon, "hash", None), 2, "refused once, and served once");
            });
        }
    });
}

/// It was worked on until there was no room for its result: once more would be the same work again.
#[test]
fn what_was_started_and_refused_is_not_tried_again() {
    const HELD: usize = 800_000;
    let daemon = Daemon::start(&[("queue.memory", "2MiB"), ("limits.body", "1MiB")]);
    let mut client = blocking::Client::connect(address(&daemon), options()).unwrap();
    let small = client.call(&Request::new("compress").body(vec![0; HELD])).unwrap().body;
    let mut occupant = Raw::open(daemon.host_port());
    for id in [1, 2] {
        occupant.send(&raw::work(id, "echo", &[("delay", "25s")], &[7; HELD]));
    }
    daemon.wait_for_status("the memory is held", |status| {
        status["queue"]["held_bytes"].as_u64() >= Some(2 * HELD as u64) && status["bytes"]["in"] == 3 * HELD
    });
    let request = Request::new("decompress").body(small.clone()).retry(Retry::Pure);
    let error = client.call(&request).map(drop).expect_err("there is no room");
    assert!(is_overloaded(&error) && !error.is_retry_safe(), "{error}");
    assert_eq!(seen(&daemon, "decompress", None), 1);
    let ran = windlass(daemon.address(), &["call", "decompress", "--retries", "3"], &small);
    assert_eq!(ran.status, Some(75), "{}", ran.stderr);
    assert_eq!(seen(&daemon, "decompress", None), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn most_calls_land_on_the_free_one_of_two_daemons_and_none_is_lost() {
    let (busy, _occupant) = saturated();
    let free = Daemon::start(&[]);
    let client = Client::connect(both(address(&busy), address(&free)), options()).await.unwrap();
    for number in 0..CALLS {
        client.call(&Request::new("echo").body(number.to_le_bytes().to_vec())).await.unwrap();
    }
    assert_eq!(seen(&free, "echo", Some("done")), CALLS);
    let refused = seen(&busy, "echo", None);
    assert!(refused < CALLS / 5, "{refused} of {CALLS} were sent to the busy one first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_of_one_of_two_daemons_costs_no_call() {
    let [leaving, staying] = [(); 2].map(|()| Daemon::start(&[]));
    let client = Client::connect(both(address(&leaving), address(&staying)), options()).await.unwrap();
    let echo = |number: u64| Request::new("echo").body(number.to_le_bytes().to_vec());
    let mut warm = 0;
    while seen(&leaving, "echo", None) == 0 || seen(&staying, "echo", None) == 0 {
        client.call(&echo(warm)).await.unwrap();
        warm += 1;
    }
    // What holds the workers keeps the drain from ending, so that the client meets it.
    let mut gate = Gate::hold(&leaving);
    let before = seen(&staying, "echo", None);
    leaving.signal(Signal::TERM);
    assert_eq!(gate.connection().frame().unwrap().go_away().unwrap().0, u64::MAX);
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..CALLS {
        let (client, request) = (client.clone(), echo(number));
        calls.spawn(async move { (number, client.call(&request).await) });
    }
    // What reached the one that leaves before it told this client is accepted, and waits there for a worker.
    eventually("calls are done by the one that stays", || {
        (seen(&staying, "echo", Some("done")) > before).then_some(())
    });
    gate.release();
    while let Some(ended) = calls.join_next().await {
        let (number, response) = ended.unwrap();
        assert_eq!(response.unwrap().body, number.to_le_bytes().to_vec());
    }
    assert_eq!(leaving.wait().status, Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_daemon_costs_no_call_even_one_that_may_not_be_repeated() {
    let (_bound, dead) = dead();
    let alive = Daemon::start(&[]);
    for number in 0..10_u64 {
        let request = Request::new("echo").body(number.to_le_bytes().to_vec()).retry(Retry::Never);
        let addresses = both(dead.clone(), address(&alive));
        let client = Client::connect(addresses.clone(), options()).await.unwrap();
        assert_eq!(client.call(&request).await.unwrap().body, request.body);
        assert_eq!(client.ping(b"who?").await.unwrap().address, address(&alive));
        let blocked = std::thread::spawn(move || {
            let mut client = blocking::Client::connect(addresses, options()).unwrap();
            (client.call(&request).unwrap().body == request.body, client.close().unwrap().requests)
        });
        assert_eq!(blocked.join().unwrap(), (true, 1));
    }
    assert_eq!(seen(&alive, "echo", Some("done")), 20);
}

#[test]
fn the_retry_budget_stops_a_storm() {
    let (daemon, _occupant) = saturated();
    let mut client = blocking::Client::connect(address(&daemon), options()).unwrap();
    for _ in 0..CALLS {
        let error = client.call(&Request::new("echo").deadline(Duration::from_secs(2))).unwrap_err();
        assert!(is_overloaded(&error), "{error}");
    }
    let seen = seen(&daemon, "echo", None);
    let allowed = CALLS + CALLS / 10 + u64::from(options().retry_budget.burst);
    assert!((CALLS..=allowed).contains(&seen), "{CALLS} calls became {seen} requests");
}

#[test]
fn the_client_program_tries_again_as_often_as_it_is_told() {
    let (daemon, _occupant) = saturated();
    let call = |arguments: &[&str]| {
        let before = seen(&daemon, "hash", None);
        let all = [&["call", "hash", "--deadline", "5s"], arguments].concat();
        let ran = windlass(daemon.address(), &all, b"");
        assert_eq!(ran.status, Some(75), "{}", ran.stderr);
        seen(&daemon, "hash", None) - before
    };
    assert_eq!(call(&["--no-retry"]), 1);
    assert_eq!(call(&["--retries", "0"]), 1);
    let made = call(&["--retries", "2"]);
    assert!((1..=3).contains(&made), "{made}");
}

#[test]
fn the_client_program_takes_several_addresses() {
    let (_bound, dead) = dead();
    let alive = Daemon::start(&[]);
    let addresses = both(dead.clone(), address(&alive)).to_string();
    let digest = windlass(&addresses, &["call", "hash", "-p", "algorithm=crc32c"], b"123456789").ok();
    assert_eq!(digest.text(), "e3069283\n");
    let pongs = windlass(&addresses, &["ping", "--count", "3"], b"").ok();
    assert_eq!(pongs.text().matches(&format!("from {}", alive.address())).count(), 3, "{}", pongs.text());
    let one_alone = windlass(&addresses, &["bench", "echo", "--duration", "1s"], b"");
    assert_eq!(one_alone.status, Some(2), "{}", one_alone.stderr);
    assert_eq!(windlass(&dead.to_string(), &["call", "hash"], b"").status, Some(69));
}
