//! The field's own load generators at saturation: not one connection error, not one answer that is no result.
//!
//! `WINDLASS_HTTP_LOAD_SECONDS` is for how long each of the three; 2 if it is not set, as in CI.

use std::path::PathBuf;

use windlass_tests::{Daemon, Ran, repetitions, run, sample, tool};

/// Connections that ask at the same time; more than workers, so that they are never without work.
const CONNECTIONS: u64 = 64;
/// Requests under way on each connection, where the protocol lets there be more than one.
const STREAMS: u64 = 16;

fn seconds() -> String {
    repetitions("WINDLASS_HTTP_LOAD_SECONDS", 2).to_string()
}

/// A daemon, an input for it, and the address that hashes it.
fn target() -> (Daemon, PathBuf, String) {
    let daemon = Daemon::start(&[]);
    let input = daemon.directory().join("input");
    std::fs::write(&input, sample("random", 16 * 1024).bytes).unwrap();
    let address = format!("http://{}/v1/call/hash?algorithm=sha256", daemon.http());
    (daemon, input, address)
}

/// What the daemon has counted is what the generator has, but for what was under way when it stopped.
#[track_caller]
#[allow(clippy::print_stdout, reason = "its figures are shown by --nocapture, and when the test fails")]
fn agrees(daemon: Daemon, answered: u64, under_way: u64, ran: &Ran) {
    println!("{}", ran.text());
    let status = daemon.wait_for_status("nothing is in flight", |status| status["in_flight"] == 0);
    let outcomes = status["requests"]["hash"].as_object().unwrap();
    let done = outcomes["done"].as_u64().unwrap();
    assert!(answered >= 1000, "{answered} answers are no load: {}", ran.text());
    assert!((answered..=answered + under_way).contains(&done), "{answered} were answered: {outcomes:?}");
    // It leaves with requests under way, some of them in the middle of a body.
    let cut_off = ["unanswered", "protocol_error"];
    assert!(
        outcomes.keys().all(|outcome| outcome == "done" || cut_off.contains(&&**outcome)),
        "{outcomes:?}"
    );
    let n_cut_off: u64 = cut_off.iter().filter_map(|outcome| outcomes.get(*outcome)?.as_u64()).sum();
    assert!(done - answered + n_cut_off <= under_way, "{answered} were answered: {outcomes:?}");
    assert_eq!(daemon.drain().status, Some(0));
}

/// The number before `word` in what was printed.
#[track_caller]
fn number(text: &str, word: &str) -> u64 {
    let before = text.split_once(word).unwrap_or_else(|| panic!("no '{word}' in {text}")).0;
    before.split_whitespace().last().unwrap().parse().unwrap()
}

#[test]
fn wrk_meets_no_error() {
    let Some(mut wrk) = tool("wrk") else { return };
    let (daemon, input, address) = target();
    let script = daemon.directory().join("post.lua");
    let lua =
        "wrk.method = 'POST'\nlocal file = io.open(INPUT, 'rb')\nwrk.body = file:read('*a')\nfile:close()\n";
    std::fs::write(&script, lua.replace("INPUT", &format!("'{}'", input.display()))).unwrap();
    wrk.args(["--threads", "1", "--connections", &CONNECTIONS.to_string(), "--latency"]);
    wrk.args(["--duration", &format!("{}s", seconds()), "--timeout", "30s", "--script"]).arg(script);
    let ran = run(wrk.arg(address), b"").ok();
    // It names them only when there are any.
    for error in ["Socket errors", "Non-2xx"] {
        assert!(!ran.text().contains(error), "{}", ran.text());
    }
    agrees(daemon, number(ran.text(), "requests in"), CONNECTIONS, &ran);
}

/// `more` chooses the version of HTTP.
fn h2load(more: &[&str], streams: u64) {
    let Some(mut h2load) = tool("h2load") else { return };
    let (daemon, input, address) = target();
    h2load.args(["--clients", &CONNECTIONS.to_string(), "--max-concurrent-streams", &streams.to_string()]);
    h2load.args(["--duration", &seconds(), "--threads", "1", "--data"]).arg(input).args(more);
    let ran = run(h2load.arg(address), b"").ok();
    let text = ran.text();
    let line = text.lines().find(|line| line.starts_with("requests:")).expect("a summary");
    for none in [" failed", " errored", " timeout"] {
        assert_eq!(number(line, none), 0, "{text}");
    }
    let codes = text.lines().find(|line| line.starts_with("status codes:")).expect("a summary of codes");
    for none in [" 3xx", " 4xx", " 5xx"] {
        assert_eq!(number(codes, none), 0, "{text}");
    }
    let answered = number(codes, " 2xx");
    assert_eq!(answered, number(line, " succeeded"), "{text}");
    agrees(daemon, answered, CONNECTIONS * streams, &ran);
}

#[test]
fn h2load_meets_no_error_over_http_1() {
    h2load(&["--h1"], 1);
}

#[test]
fn h2load_meets_no_error_over_http_2_with_prior_knowledge() {
    h2load(&[], STREAMS);
}
