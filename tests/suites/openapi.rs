//! The served OpenAPI document against the served answers, by a checker that invents requests: valid ones, and ones that
//! are wrong in every way the document lets it think of.

use windlass_tests::http::ask;
use windlass_tests::{Daemon, repetitions, repository, run, tool};

#[test]
fn a_checker_finds_no_server_error_and_no_answer_that_the_document_does_not_describe() {
    let Some(mut checker) = tool("schemathesis") else { return };
    // Nothing that it asks for takes long, so that it can ask for much.
    let daemon = Daemon::start(&[
        ("limits.body", "1MiB"),
        ("operations.echo.delay_max", "20ms"),
        ("operations.spin.for_max", "20ms"),
        ("operations.spin.for", "1ms"),
        ("operations.password-hash.time_max", "100ms"),
        ("operations.password-hash.log_n", "13"),
        ("operations.password-hash.cost", "6"),
    ]);
    let examples = repetitions("WINDLASS_SCHEMATHESIS_EXAMPLES", 100).to_string();
    checker.arg("--config-file").arg(repository().join("tests/http/schemathesis.toml")).arg("run");
    checker.args(["--max-examples", &examples, "--generation-deterministic", "--continue-on-failure"]);
    checker.args(["--request-timeout", "30", "--no-color"]);
    checker.arg(format!("http://{}/v1/openapi.json", daemon.http())).current_dir(daemon.directory());
    let ran = run(&mut checker, b"");
    assert_eq!(ran.status, Some(0), "{}{}", ran.text(), ran.stderr);

    // It did what it is here for: every resource, with requests that were served and ones that were refused.
    let document: serde_json::Value =
        serde_json::from_slice(&ask(daemon.http(), "GET /v1/openapi.json", b"").body).unwrap();
    // It does not ask for the document that it was given.
    let resources = document["paths"].as_object().unwrap().len() - 1;
    assert!(ran.text().contains(&format!("Tested: {resources}\n")), "{}", ran.text());
    let status = daemon.status();
    for name in ["echo", "hash", "spin", "compress", "password-hash"] {
        let done = status["operations"][name]["done"].as_u64().unwrap();
        assert!(done >= 10, "{name} was done {done} times: {}", ran.text());
    }
    assert_eq!(status["panics"], 0);
    assert_eq!(daemon.drain().status, Some(0));
}
