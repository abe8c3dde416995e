//! The page in a real browser: it shows what the daemon says, and shows it to nobody else.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;

use rustix::process::Signal;
use windlass_tests::admin::status;
use windlass_tests::raw::{Raw, work};
use windlass_tests::{BROWSER_FLAGS, Browser, Daemon, eventually, run, tool};

/// What the browser made of a place once its scripts have run for `seconds` of the page's own time.
fn dom(address: &str, profile: &Path, seconds: u32, more: &[&str]) -> Option<String> {
    let mut browser = tool("chromium")?;
    browser
        .args(BROWSER_FLAGS)
        .arg("--dump-dom")
        .arg(format!("--virtual-time-budget={}", seconds * 1000))
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(more)
        .arg(address);
    let ran = run(&mut browser, b"");
    assert_eq!(ran.status, Some(0), "{}", ran.stderr);
    Some(ran.text().to_owned())
}

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

#[test]
fn a_page_of_another_origin_can_read_nothing() {
    let daemon = Daemon::start(&[]);
    let at = daemon.admin_address().to_owned();
    let evil = TcpListener::bind("127.0.0.1:0").unwrap();
    let evil_at = evil.local_addr().unwrap();
    let page = format!(
        "<!doctype html><body><script>\
         const say = (what, how) => document.body.append(what + '=' + how + ';');\
         const read = (what, options) => fetch('http://{at}/status.json', options)\
           .then(answer => answer.text().then(text => say(what, answer.type + text.length)), () => say(what, 'refused'));\
         const script = document.createElement('script'); script.src = 'http://{at}/status.json';\
         script.onerror = () => say('script', 'refused'); script.onload = () => say('script', 'loaded');\
         document.body.append(script);\
         fetch('http://{at}/log-level', {{ method: 'PUT', body: 'trace' }}).then(() => say('put', 'done'), () => say('put', 'refused'));\
         read('cors'); read('opaque', {{ mode: 'no-cors' }});\
         </script></body>"
    );
    // Serves until the test ends; the thread goes with the process.
    std::thread::spawn(move || {
        for mut stream in evil.incoming().map_while(Result::ok) {
            // Whatever was asked, this is the answer.
            let _ = stream.read(&mut [0; 4096]);
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length:";
            let _ = write!(stream, "{head} {}\r\n\r\n{page}", page.len());
        }
    });
    let Some(seen) = dom(&format!("http://{evil_at}/"), daemon.directory(), 5, &[]) else { return };
    for said in ["script=refused;", "put=refused;", "cors=refused;"] {
        assert!(seen.contains(said), "{said} {seen}");
    }
    // An opaque answer has no text for the page; the door refused it besides.
    assert!(seen.contains("opaque=opaque0;") || seen.contains("opaque=refused;"), "{seen}");
    assert_eq!(windlass_tests::admin::look(&at, "/log-level").body, "info\n");

    // A name that its owner has pointed here is a stranger to the door, so nothing of it can be read by its pages.
    let port = at.rsplit_once(':').unwrap().1;
    let rules = "--host-resolver-rules=MAP rebound.example 127.0.0.1";
    let seen = dom(&format!("http://rebound.example:{port}/"), daemon.directory(), 2, &[rules]).unwrap();
    assert!(seen.contains("not to this Host") && !seen.contains("Throughput"), "{seen}");
}
