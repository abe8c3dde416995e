//! The page in a real browser: it shows what the daemon says.

use rustix::process::Signal;
use windlass_tests::admin::status;
use windlass_tests::raw::{Raw, work};
use windlass_tests::{Browser, Daemon, dom, eventually};

/// The number that an element shows: the attribute `name` of the one whose tag holds `mark`.
#[track_caller]
fn shown(dom: &str, mark: &str, name: &str) -> f64 {
    let tags = dom.split('<').map(|rest| rest.split('>').next().unwrap_or_default());
    let tag = tags.into_iter().find(|tag| tag.contains(mark)).unwrap_or_else(|| panic!("no {mark} in {dom}"));
    let (_, value) = tag.split_once(&format!("{name}=\"")).unwrap_or_else(|| panic!("no {name} in <{tag}>"));
    value.split('"').next().unwrap().parse().unwrap()
}

#[test]
fn the_page_shows_what_the_status_says_under_load() {
    let daemon = Daemon::start(&[
        ("cpu.threads", "2"),
        ("queue.capacity", "3"),
        ("queue.max_wait", "10m"),
        ("timeouts.deadline_default", "10m"),
    ]);
    let mut connection = Raw::open(daemon.host_port());
    for id in 1..=200 {
        connection.send(&work(id, "hash", &[], b"abc"));
        connection.frame().unwrap();
    }
    connection.send(&work(201, "no-such", &[], b""));
    connection.frame().unwrap();
    for id in 202..=208 {
        connection.send(&work(id, "spin", &[("for", "1m")], b""));
    }
    for _ in 0..2 {
        connection.frame().unwrap();
    }
    let at = daemon.admin_address();
    eventually("the workers run", || {
        let idle = status(at)["workers"].as_array().unwrap().iter().any(|worker| worker["running"].is_null());
        (!idle).then_some(())
    });
    let Some(dom) = dom(&format!("http://{at}/"), daemon.directory(), 5, &[]) else { return };
    let said = status(at);
    assert!(shown(&dom, "html lang", "data-polls") >= 2.0, "{dom}");
    assert!(dom.contains("data-state=\"serving\""), "{dom}");
    let pairs = [
        (shown(&dom, "id=\"waiting\"", "data-value"), &said["queue"]["waiting"], 3.0),
        (shown(&dom, "id=\"in-flight\"", "data-value"), &said["in_flight"], 5.0),
        (shown(&dom, "data-operation=\"hash\"", "data-done"), &said["requests"]["hash"]["done"], 200.0),
        (shown(&dom, "data-operation=\"spin\"", "data-failed"), &said["requests"]["spin"]["overloaded"], 2.0),
        (shown(&dom, "data-reason=\"Overloaded\"", "data-value"), &said["refusals"]["Overloaded"], 2.0),
        (
            shown(&dom, "data-reason=\"UnknownOperation\"", "data-value"),
            &said["refusals"]["UnknownOperation"],
            1.0,
        ),
    ];
    for (on_page, in_status, expected) in pairs {
        assert_eq!((on_page, in_status.as_f64()), (expected, Some(expected)), "{said}");
    }
    assert_eq!(shown(&dom, "id=\"busy\"", "data-value"), 2.0);
    assert_eq!(dom.matches("data-running=\"spin\"").count(), 2, "{dom}");
    assert_eq!(shown(&dom, "id=\"throughput-more\"", "data-done"), 200.0);
    assert!(dom.contains("<path class=\"one\" d=\"M"), "no chart is drawn: {dom}");
}

#[test]
fn the_page_follows_a_drain_and_says_when_the_daemon_is_gone() {
    let daemon = Daemon::start(&[]);
    let mut connection = Raw::open(daemon.host_port());
    connection.send(&work(1, "echo", &[("delay", "20s")], b""));
    let address = format!("http://{}/", daemon.admin_address());
    let Some(browser) = Browser::open(&address, daemon.directory()) else { return };
    let state = |wanted: &str| {
        eventually(wanted, || {
            let state = browser.evaluate("document.getElementById('state').textContent");
            (state == wanted).then(|| browser.evaluate("document.getElementById('notice').innerText"))
        })
    };
    assert_eq!(state("serving"), "");
    daemon.signal(Signal::TERM);
    let notice = state("draining").to_string();
    assert!(notice.contains("1 in flight on 1 connection,") && notice.contains("left at most"), "{notice}");
    drop(connection);
    assert_eq!(daemon.wait().status, Some(0));
    let notice = state("gone").to_string();
    assert!(notice.contains("does not answer"), "{notice}");
    assert_eq!(browser.evaluate("document.title"), "gone · Windlass");
}
