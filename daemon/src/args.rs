//! The command line of windlassd.

use std::path::PathBuf;

use clap::Parser;

/// Does the CPU work of other programs: hashing, compression, passwords.
///
/// Without a file it runs on its built-in defaults and listens on loopback. Exit status: 0 drained clean, 1 failed
/// while running, 2 wrong use, 69 cannot bind, 75 drain incomplete, 78 bad configuration.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "windlassd", version)]
pub struct Arguments {
    /// Configuration file, TOML; above the built-in defaults.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Sets a key, above file and environment (WINDLASS__SECTION__KEY). May be repeated; lists are separated by
    /// commas.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,

    /// Checks the configuration, lists every problem and ends.
    #[arg(long)]
    pub check: bool,

    /// Prints the configuration in force, with where each value comes from, and ends.
    #[arg(long, conflicts_with = "check")]
    pub print_config: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_declaration_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_are_kept_in_their_order() {
        let given = ["windlassd", "--set", "io.threads=1", "--config", "/x.toml", "--set", "io.threads=2"];
        let arguments = Arguments::try_parse_from(given).unwrap();
        assert_eq!(arguments.set, ["io.threads=1", "io.threads=2"]);
        assert_eq!(arguments.config, Some(PathBuf::from("/x.toml")));
    }

    #[test]
    fn wrong_use_exits_with_status_2() {
        for given in [["windlassd", "--chekc"], ["windlassd", "surplus"], ["windlassd", "--config"]] {
            assert_eq!(Arguments::try_parse_from(given).unwrap_err().exit_code(), 2);
        }
    }
}
