//! Pages of others in a real browser: they cannot make the daemon work, and read nothing of it at either door.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;

use serde_json::Value;
use windlass_tests::admin::{look, status};
use windlass_tests::http::ask;
use windlass_tests::{Browser, Daemon, eventually};

/// A name that its owner has pointed here.
const REBOUND: &str = "rebound.example";

/// What every page begins with: `attempt` notes in `said` what came of something, as a word or as what was read.
const BEGIN: &str = "<!doctype html><body><script>
const said = {};
const attempt = (name, promise) => promise.then(read => said[name] = read, () => said[name] = 'refused');
const text = answer => answer.text().then(text => answer.type + ' ' + answer.status + ' ' + text);
const ask = (address, options) => fetch(address, options).then(text);
const element = (tag, more) => new Promise((done, failed) => {
  const made = Object.assign(document.createElement(tag), more);
  made.onload = () => done('loaded');
  made.onerror = failed;
  document.body.append(made);
});
const form = (name, action, enctype) => {
  const frame = Object.assign(document.createElement('iframe'), { name });
  const made = Object.assign(document.createElement('form'), { method: 'POST', action, enctype, target: name });
  made.append(Object.assign(document.createElement('input'), { name: 'a', value: 'b' }));
  document.body.append(frame, made);
  return new Promise(done => {
    frame.onload = () => {
      let inside;
      try { inside = frame.contentDocument ? 'read ' + frame.contentDocument.body.innerText : 'unreadable'; }
      catch { inside = 'unreadable'; }
      if (inside !== 'read ') done(inside);
    };
    made.submit();
  });
};
";

/// Serves `page` at `/` of an address of its own, for as long as the test runs. With `relay`, whatever else is asked
/// for goes to that door, byte for byte, and its answer comes back: so it looks from both ends when the name of the
/// page has moved to the door's address.
fn serve(address: &str, script: &str, relay: Option<&str>) -> String {
    let listener = TcpListener::bind(address).unwrap();
    let at = listener.local_addr().unwrap().to_string();
    let page = format!("{BEGIN}{script}</script></body>");
    let relay = relay.map(str::to_owned);
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (page, relay) = (page.clone(), relay.clone());
            // A browser that goes away in the middle is no fault of the test.
            std::thread::spawn(move || drop(answer(stream, &page, relay.as_deref())));
        }
    });
    at
}

fn answer(mut stream: TcpStream, page: &str, relay: Option<&str>) -> io::Result<()> {
    let mut asked = Vec::new();
    while !asked.windows(4).any(|bytes| bytes == b"\r\n\r\n") {
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes)? {
            0 => return Ok(()),
            n => asked.extend_from_slice(&bytes[..n]),
        }
    }
    match relay {
        Some(door) if !asked.starts_with(b"GET / ") && !asked.starts_with(b"GET /favicon.ico ") => {
            let mut door = TcpStream::connect(door)?;
            door.write_all(&asked)?;
            let (mut from, mut to) = (stream.try_clone()?, door.try_clone()?);
            std::thread::spawn(move || {
                drop(io::copy(&mut from, &mut to));
                drop(to.shutdown(Shutdown::Write));
            });
            io::copy(&mut door, &mut stream)?;
            stream.shutdown(Shutdown::Write)
        }
        _ => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close\r\ncontent-length:";
            write!(stream, "{head} {}\r\n\r\n{page}", page.len())
        }
    }
}

/// Opens a page and waits until it has noted so many attempts.
#[track_caller]
fn noted(address: &str, profile: &Path, flags: &[&str], n_attempts: usize) -> Option<Value> {
    let browser = Browser::open_with(address, profile, flags)?;
    Some(eventually("the page has tried everything", || {
        Some(browser.evaluate("said")).filter(|said| said.as_object().unwrap().len() == n_attempts)
    }))
}

/// The daemon has refused at least so many requests for their HTTP, and has not worked.
#[track_caller]
fn assert_idle(daemon: &Daemon, n_refused: u64) {
    let status = daemon.status();
    assert_eq!(status["operations"], serde_json::json!({}), "nothing was worked on");
    assert_eq!(status["bytes"], serde_json::json!({ "in": 0, "out": 0 }), "{status}");
    let requests = status["requests"].as_object().unwrap();
    assert!(requests.keys().all(|operation| operation == "unknown"), "{requests:?}");
    // They were not kept away by the browser alone.
    let refused = status["refusals"]["ProtocolError"].as_u64().unwrap();
    assert!(refused >= n_refused, "{refused} of {n_refused} arrived: {status}");
}

#[test]
fn a_page_of_another_origin_can_make_the_http_door_do_nothing() {
    let daemon = Daemon::start(&[]);
    let door = daemon.http();
    let script = format!(
        "const call = 'http://{door}/v1/call/hash', list = 'http://{door}/v1/operations';
         attempt('cors', ask(call, {{ method: 'POST', body: 'abc' }}));
         attempt('no-cors', ask(call, {{ method: 'POST', body: 'abc', mode: 'no-cors' }}));
         attempt('preflighted', ask(call, {{ method: 'POST', body: 'abc', headers: {{ 'Windlass-Priority': 'batch' }} }}));
         attempt('get', ask(list));
         attempt('get no-cors', ask(list, {{ mode: 'no-cors' }}));
         attempt('form text', form('one', call, 'text/plain'));
         attempt('form urlencoded', form('two', call, 'application/x-www-form-urlencoded'));
         attempt('form multipart', form('three', call, 'multipart/form-data'));
         attempt('image', element('img', {{ src: list }}));
         attempt('script', element('script', {{ src: list }}));
         attempt('style', element('link', {{ rel: 'stylesheet', href: list }}));
         attempt('socket', new Promise((done, failed) => Object.assign(new WebSocket('ws://{door}/v1/operations'),
           {{ onopen: () => done('opened'), onerror: failed }})));
         attempt('beacon', Promise.resolve(navigator.sendBeacon(call, 'abc') ? 'sent' : 'not sent'));"
    );
    // Of another address, and of another port of the same one.
    for address in ["127.0.0.2:0", "127.0.0.1:0"] {
        let page = format!("http://{}/", serve(address, &script, None));
        let Some(said) = noted(&page, &daemon.directory().join(address), &[], 13) else { return };
        for (attempt, came_of_it) in said.as_object().unwrap() {
            let nothing = match attempt.as_str() {
                "no-cors" | "get no-cors" => vec!["opaque 0 ", "refused"],
                "form text" | "form urlencoded" | "form multipart" => vec!["unreadable"],
                // It is not told what becomes of it.
                "beacon" => vec!["sent"],
                _ => vec!["refused"],
            };
            assert!(nothing.contains(&came_of_it.as_str().unwrap()), "{address}: {attempt}: {said}");
        }
        // All 13, but the POST behind the preflight, and what this version of the browser keeps to itself.
        eventually("what it sent has arrived", || {
            (daemon.status()["refusals"]["ProtocolError"].as_u64() >= Some(10)).then_some(())
        });
        assert_idle(&daemon, 10);
    }
    // And nothing but that stood in the way.
    assert_eq!(ask(door, "POST /v1/call/hash", b"abc").status, 200);
}

#[test]
fn a_page_whose_name_was_moved_here_can_make_the_http_door_do_nothing() {
    let daemon = Daemon::start(&[]);
    let port = daemon.http().rsplit_once(':').unwrap().1;
    let script = "
        attempt('call', ask('/v1/call/hash', { method: 'POST', body: 'abc' }));
        attempt('parameter', ask('/v1/call/hash', { method: 'POST', headers: { 'Windlass-Priority': 'batch' } }));
        attempt('list', ask('/v1/operations'));
        attempt('form', form('one', '/v1/call/hash', 'text/plain'));";
    serve(&format!("127.0.0.2:{port}"), script, Some(daemon.http()));
    let rules = format!("--host-resolver-rules=MAP {REBOUND} 127.0.0.2");
    let page = format!("http://{REBOUND}:{port}/");
    let Some(said) = noted(&page, daemon.directory(), &[&rules], 4) else { return };
    for (attempt, came_of_it) in said.as_object().unwrap() {
        // It is of one origin with what answers, as far as its browser knows, and may read how it is turned away.
        let came_of_it = came_of_it.as_str().unwrap();
        assert!(came_of_it.contains("Misdirected Request"), "{attempt}: {came_of_it}");
        assert!(!came_of_it.contains("algorithm"), "{attempt}: {came_of_it}");
    }
    assert_idle(&daemon, 4);
}

#[test]
fn a_page_of_another_origin_can_read_nothing_of_the_admin_door_and_change_nothing() {
    let daemon = Daemon::start(&[]);
    let at = daemon.admin_address();
    let script = format!(
        "const status = 'http://{at}/status.json';
         attempt('cors', ask(status));
         attempt('no-cors', ask(status, {{ mode: 'no-cors' }}));
         attempt('script', element('script', {{ src: status }}));
         attempt('level', ask('http://{at}/log-level', {{ method: 'PUT', body: 'trace' }}));"
    );
    let page = format!("http://{}/", serve("127.0.0.2:0", &script, None));
    let Some(said) = noted(&page, daemon.directory(), &[], 4) else { return };
    for (attempt, came_of_it) in said.as_object().unwrap() {
        let nothing = came_of_it == "refused" || (attempt == "no-cors" && came_of_it == "opaque 0 ");
        assert!(nothing, "{attempt}: {said}");
    }
    assert_eq!(look(at, "/log-level").body, "info\n");
}

#[test]
fn a_page_whose_name_was_moved_here_can_read_nothing_of_the_admin_door_and_change_nothing() {
    let daemon = Daemon::start(&[]);
    let at = daemon.admin_address();
    let port = at.rsplit_once(':').unwrap().1;
    let script = "
        attempt('status', ask('/status.json'));
        attempt('metrics', ask('/metrics'));
        attempt('level', ask('/log-level', { method: 'PUT', body: 'trace' }));";
    serve(&format!("127.0.0.2:{port}"), script, Some(at));
    let rules = format!("--host-resolver-rules=MAP {REBOUND} 127.0.0.2");
    let Some(said) = noted(&format!("http://{REBOUND}:{port}/"), daemon.directory(), &[&rules], 3) else {
        return;
    };
    for (attempt, came_of_it) in said.as_object().unwrap() {
        let came_of_it = came_of_it.as_str().unwrap();
        assert!(came_of_it.starts_with("basic 421 host 'rebound.example:"), "{attempt}: {came_of_it}");
    }
    assert_eq!(look(at, "/log-level").body, "info\n");
    // What it is kept from is there.
    assert_eq!(status(at)["state"], "serving");
}
