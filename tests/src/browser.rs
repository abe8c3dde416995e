//! A real browser with nobody in front of it, driven over HTTP (W3C WebDriver).

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Stdio};

use serde_json::{Value, json};

use crate::{PATIENCE, eventually, run, tool};

/// What headless Chromium is started with: nothing that looks for a network, a display or a sandbox of its own.
const BROWSER_FLAGS: [&str; 9] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
];

/// What the browser made of a place once its scripts have run for `seconds` of the page's own time; `None` without a
/// browser.
#[track_caller]
pub fn dom(address: &str, profile: &Path, seconds: u32, more: &[&str]) -> Option<String> {
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

/// A browser with one page open. Dropping it ends it.
pub struct Browser {
    driver: Child,
    host_port: String,
    session: String,
}

impl Browser {
    /// Opens a page; `None` without a browser and its driver.
    #[track_caller]
    pub fn open(address: &str, profile: &Path) -> Option<Self> {
        Self::open_with(address, profile, &[])
    }

    /// The same, with more flags.
    #[track_caller]
    pub fn open_with(address: &str, profile: &Path, more: &[&str]) -> Option<Self> {
        tool("chromium")?;
        tool("chromedriver")?;
        let (driver, said, port) = eventually("the driver finds a port", start_driver);
        // What else it says is read, so that it never waits for a reader.
        std::thread::spawn(move || said.map_while(Result::ok).for_each(drop));
        let mut browser = Self { driver, host_port: format!("127.0.0.1:{port}"), session: String::new() };
        let profile = format!("--user-data-dir={}", profile.display());
        let flags: Vec<&str> =
            BROWSER_FLAGS.into_iter().chain([profile.as_str()]).chain(more.iter().copied()).collect();
        let wanted = json!({ "alwaysMatch": { "goog:chromeOptions": { "args": flags } } });
        let session = browser.ask("POST", "/session", &json!({ "capabilities": wanted }));
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        browser.of_session("url", &json!({ "url": address }));
        Some(browser)
    }

    /// What an expression of the page's own language is there.
    #[track_caller]
    pub fn evaluate(&self, expression: &str) -> Value {
        self.of_session("execute/sync", &json!({ "script": format!("return {expression}"), "args": [] }))
    }

    #[track_caller]
    fn of_session(&self, command: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}/{command}", self.session), body)
    }

    #[track_caller]
    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(&self.host_port).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let body = body.to_string();
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n", self.host_port);
        write!(
            stream,
            "{head}content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        // The driver keeps the connection open whatever it is told.
        let mut answer = BufReader::new(stream);
        let head: Vec<String> =
            (&mut answer).lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
        let length = head
            .iter()
            .find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok())
            .expect("a length");
        let mut body = vec![0; length];
        answer.read_exact(&mut body).unwrap();
        let mut answer: Value = serde_json::from_slice(&body).unwrap();
        assert!(head[0].starts_with("HTTP/1.1 200"), "{path}: {answer}");
        answer["value"].take()
    }
}

/// A driver, what else it says, and its port; `None` when it ended. It takes any port that is free for IPv4, and has bad
/// luck when that is taken for IPv6.
#[track_caller]
fn start_driver() -> Option<(Child, Lines<BufReader<ChildStdout>>, String)> {
    let mut driver = tool("chromedriver")?
        .arg("--port=0")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = said.find_map(|line| {
        let line = line.unwrap();
        Some(line.split_once("successfully on port ")?.1.trim_end_matches('.').to_owned())
    });
    if port.is_none() {
        driver.wait().unwrap();
    }
    Some((driver, said, port?))
}

impl Drop for Browser {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.ask("DELETE", &format!("/session/{}", self.session), &json!({}));
        }
        // The browser goes with its driver.
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
