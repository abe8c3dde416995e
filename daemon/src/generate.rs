//! Manual pages and shell completions, written from the declarations of a command line. Part of both programs in a
//! build with the cargo feature `generate`, which no released binary has: with `WINDLASS_GENERATE=FOLDER` in the
//! environment they write there and end.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::ExitCode;

use clap::{Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

/// The shells that Debian has folders for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Writes what belongs to a program, if somebody asked for it. `section` is that of its manual pages.
pub(crate) fn asked_for<Arguments: CommandFactory>(section: &'static str) -> Option<ExitCode> {
    let folder = std::env::var_os("WINDLASS_GENERATE")?;
    Some(match write(Arguments::command(), section, Path::new(&folder)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(&error, &folder);
            ExitCode::FAILURE
        }
    })
}

#[allow(clippy::print_stderr, reason = "whoever builds the package looks there")]
fn tell(error: &io::Error, folder: &std::ffi::OsStr) {
    eprintln!("cannot write to {}: {error}", folder.display());
}

fn write(command: Command, section: &'static str, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    // Its own commands have no page; help is a flag, too.
    let mut command = command.disable_help_subcommand(true);
    let name = command.get_name().to_owned();
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut command, &name, folder)?;
    }
    command.build();
    page(&command, &name, section, folder)?;
    for inner in command.get_subcommands() {
        page(inner, &format!("{name}-{}", inner.get_name()), section, folder)?;
    }
    Ok(())
}

fn page(command: &Command, title: &str, section: &'static str, folder: &Path) -> io::Result<()> {
    let mut file = File::create(folder.join(format!("{title}.{section}")))?;
    let command = command.clone().name(title.to_owned());
    Man::new(command).section(section).manual("Windlass").render(&mut file)
}
