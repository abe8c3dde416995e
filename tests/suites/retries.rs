//! Clients of daemons that are busy, leaving or gone: what is tried again, where, and how often.

use std::net::TcpListener;
use std::time::Duration;

use rustix::process::Signal;
use windlass_protocol::FailureCode;
use windlass_protocol::client::pipelined::Client;
use windlass_protocol::client::{
    Address, Addresses, Backoff, CallError, Options, Request, Retry, RetryBudget, blocking,
};
use windlass_tests::raw::{self, Raw};
use windlass_tests::{Daemon, Gate, PATIENCE, windlass};

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
    let daemon = Daemon::start(&[("cpu.threads", "1"), ("queue.capacity", "1")]);
    let mut occupant = Raw::open(daemon.host_port());
    occupant.send(&raw::work(1, "spin", &[("for", "20s")], b""));
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
    let [leaving, staying] = [(); 2].map(|()| Daemon::start(&[("queue.max_wait", "1m")]));
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
    while let Some(ended) = calls.join_next().await {
        let (number, response) = ended.unwrap();
        assert_eq!(response.unwrap().body, number.to_le_bytes().to_vec());
    }
    assert_eq!(seen(&staying, "echo", Some("done")) - before, CALLS);
    gate.release();
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
