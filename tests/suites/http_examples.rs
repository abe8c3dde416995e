//! The examples of the README run as they stand, where their interpreter is.

use std::process::Command;

use windlass_tests::{Daemon, python_with, repository, run, sample, tool};

/// Where the examples say that the daemon is.
const PRINTED: &str = "127.0.0.1:7411";

/// The fenced blocks of the README in this language that speak HTTP.
fn examples(language: &str) -> Vec<String> {
    let text = std::fs::read_to_string(repository().join("README.md")).unwrap();
    let blocks: Vec<String> = text
        .split("```")
        .skip(1)
        .step_by(2)
        .filter_map(|block| block.strip_prefix(&format!("{language}\n")))
        .filter(|block| block.contains(&format!("{PRINTED}/v1/")))
        .map(str::to_owned)
        .collect();
    assert!(!blocks.is_empty(), "no example in {language}");
    blocks
}

/// A daemon whose folder has a photo, and what sha256 says of it.
fn with_photo() -> (Daemon, String) {
    let daemon = Daemon::start(&[]);
    let photo = daemon.directory().join("photo.jpg");
    std::fs::write(&photo, sample("random", 300_000).bytes).unwrap();
    let digest = run(Command::new("sha256sum").arg(&photo), b"").ok();
    (daemon, digest.text().split(' ').next().unwrap().to_owned())
}

/// Runs a script and compares what it prints.
#[track_caller]
fn prints_the_digest(mut interpreter: Command, name: &str, script: &str) {
    let (daemon, digest) = with_photo();
    std::fs::write(daemon.directory().join(name), script.replace(PRINTED, daemon.http())).unwrap();
    let ran = run(interpreter.arg(name).current_dir(daemon.directory()), b"").ok();
    assert_eq!(ran.text().trim_end(), digest, "{}", ran.stderr);
}

#[test]
fn every_curl_recipe_works_as_printed() {
    if tool("curl").is_none() {
        return;
    }
    let (daemon, digest) = with_photo();
    let mut printed = String::new();
    for example in examples("sh") {
        let script = example.replace(PRINTED, daemon.http());
        let mut shell = Command::new("sh");
        shell.args(["-e", "-c", &script]).current_dir(daemon.directory());
        let ran = run(&mut shell, b"").ok();
        printed += ran.text();
        assert!(!ran.text().contains("\"status\":"), "{example}: {}", ran.text());
    }
    assert!(printed.contains(&digest) && printed.contains("true"), "{printed}");
    let file = |name: &str| std::fs::read(daemon.directory().join(name)).unwrap();
    assert_eq!(file("photo.copy.jpg"), file("photo.jpg"));
    let listed = run(Command::new("tar").args(["-tzf", "photo.tar.gz"]).current_dir(daemon.directory()), b"");
    assert_eq!(listed.ok().text(), "photo.jpg\n");
}

#[test]
fn node_fetch_hashes_a_file() {
    let Some(node) = tool("node") else { return };
    prints_the_digest(node, "example.mjs", &examples("js")[0]);
}

#[test]
fn python_hashes_a_file_with_requests_httpx_and_urllib() {
    for example in examples("python") {
        let module = example.lines().next().unwrap().strip_prefix("import ").unwrap().to_owned();
        if let Some(python) = python_with(&module) {
            prints_the_digest(python, "example.py", &example);
        }
    }
}

#[test]
fn php_hashes_a_file_with_curl() {
    let Some(php) = tool("php") else { return };
    prints_the_digest(php, "example.php", &examples("php")[0]);
}
