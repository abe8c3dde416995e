//! The programs that are run: ours are built, others installed when they are missing.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use crate::trouble::{Attempt, Result, Trouble, failed};

/// The top of the repository.
pub(crate) fn repository() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).expect("this crate stands two folders below the top").to_owned()
}

/// windlassd in its release build, looked after once in a run: cargo itself takes time that would be missed elsewhere.
pub(crate) fn windlassd() -> Result<PathBuf> {
    static BUILT: OnceLock<Result<PathBuf>> = OnceLock::new();
    BUILT.get_or_init(|| built("windlass-daemon", "windlassd")).clone()
}

/// A program of the workspace in its release build, up to date.
pub(crate) fn built(package: &str, name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().trying("find this program itself")?;
    // target/PROFILE/windlass-bench
    let target = own.ancestors().nth(2).unwrap_or(Path::new("target"));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--locked", "--package", package, "--bin", name])
        .current_dir(repository())
        .env("CARGO_TARGET_DIR", target)
        .status()
        .trying("run cargo")?;
    if !status.success() {
        return failed(format!("cannot build {name}: cargo says {status}"));
    }
    Ok(target.join("release").join(name))
}

/// A program of Debian's: where it is, installed if it is not and this may be done.
pub(crate) fn installed(program: &str, package: &str) -> Result<PathBuf> {
    if let Some(path) = find(program) {
        return Ok(path);
    }
    if !rustix::process::geteuid().is_root() {
        return Err(Trouble::Skipped(format!("there is no {program}; as root: apt-get install {package}")));
    }
    let apt = |arguments: &[&str]| {
        let mut command = Command::new("apt-get");
        command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").env("RUNLEVEL", "1");
        command.stdout(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    let install = ["install", "-y", "-qq", "--no-install-recommends", package];
    let is_done = apt(&install) || (apt(&["update", "-qq"]) && apt(&install));
    if !is_done {
        return Err(Trouble::Skipped(format!("there is no {program}, and apt-get cannot install {package}")));
    }
    find(program).ok_or_else(|| Trouble::Skipped(format!("{package} is installed and has no {program}")))
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Daemons stand where the path of a plain user may not lead.
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// The first line with something in it that `program ARGUMENT` prints, or that it cannot be run.
pub(crate) fn version(program: &Path, argument: &str) -> String {
    let output = Command::new(program).arg(argument).output();
    let Ok(output) = output else { return "unknown".to_owned() };
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("unknown").to_owned()
}
