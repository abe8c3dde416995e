//! Manual pages and shell completions, written from the declarations of a command line. Part of both programs in a
//! build with the cargo feature `generate`, which no released binary has.

use std::fs::File;
use std::io;
use std::path::Path;

use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;

/// The shells that Debian has folders for.
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

/// Writes one page for the program and one for each of its commands, and the completions.
///
/// # Errors
///
/// When the folder cannot be written to.
pub(crate) fn pages(mut command: Command, section: &'static str, folder: &Path) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let name = command.get_name().to_owned();
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut command, &name, folder)?;
    }
    // Its own commands have no page: help is a flag, and this is hidden.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    page(&command, &name, section, folder)?;
    for inner in command.get_subcommands().filter(|inner| !inner.is_hide_set()) {
        page(inner, &format!("{name}-{}", inner.get_name()), section, folder)?;
    }
    Ok(())
}

fn page(command: &Command, title: &str, section: &'static str, folder: &Path) -> io::Result<()> {
    let mut file = File::create(folder.join(format!("{title}.{section}")))?;
    let command = command.clone().name(title.to_owned());
    Man::new(command).section(section).manual("Windlass").render(&mut file)
}
