//! What the README says is what the code does.

use windlass_daemon::{exit::Exit, operations};
use windlass_tests::{Program, repository, run};

fn readme() -> String {
    std::fs::read_to_string(repository().join("README.md")).unwrap()
}

#[test]
fn the_table_of_operations_is_made_from_the_declarations() {
    let declarations: Vec<_> = operations::declared()
        .into_iter()
        .filter(|declaration| !declaration.name.starts_with("fault-"))
        .collect();
    let table = operations::markdown(&declarations);
    assert!(readme().contains(&table), "put this table into the README:\n{table}");
}

#[test]
fn both_commands_stand_in_the_first_screen() {
    let readme = readme();
    let first_screen: Vec<&str> = readme.lines().take(40).collect();
    let starts = |command: &str| first_screen.iter().any(|line| line.starts_with(command));
    assert!(starts("cargo install --locked --path daemon && windlassd"));
    assert!(starts("cargo test --workspace --locked"));
}

#[test]
fn every_exit_status_of_the_daemon_is_in_the_readme() {
    let readme = readme();
    let statuses = [
        Exit::Drained,
        Exit::Failed,
        Exit::Usage,
        Exit::CannotBind,
        Exit::DrainIncomplete,
        Exit::BadConfiguration,
    ];
    for status in statuses.map(Exit::status) {
        assert!(readme.contains(&format!("| {status} |")), "{status}");
    }
}

#[test]
fn every_command_of_the_client_is_in_the_readme() {
    let help = run(Program::Windlass.command().arg("--help"), b"").ok();
    let commands: Vec<&str> = help
        .text()
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.strip_prefix("  ")?.split_whitespace().next())
        .filter(|word| *word != "help" && word.chars().all(char::is_lowercase))
        .collect();
    assert!(commands.contains(&"call") && commands.contains(&"bench"), "{commands:?}");
    for command in commands {
        assert!(readme().contains(&format!("`windlass {command}")), "{command}");
    }
}

#[test]
fn the_digest_that_the_readme_shows_is_the_one_that_comes_out() {
    let daemon = windlass_tests::Daemon::start(&[]);
    let license = repository().join("LICENSE");
    let arguments = ["call", "hash", "-p", "algorithm=sha256", license.to_str().unwrap()];
    let ran = windlass_tests::windlass(daemon.address(), &arguments, b"").ok();
    let digest = ran.text().split(' ').next().unwrap();
    assert!(readme().contains(&format!("{digest}  LICENSE\n")), "{digest}");
}
