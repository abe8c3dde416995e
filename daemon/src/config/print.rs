//! The configuration as text that reads back: what is in force, and the reference file with every key.

use std::fmt::Write;

use super::kind::{Kind, quoted};
use super::schema::{Applies, Key, SECTIONS, Schema};
use super::{Config, Known, Origin};

/// Letters in a line of the reference file.
const WIDTH: usize = 100;

impl Config {
    /// What is in force, as TOML that reads back to the same: each value as it was written, with where it comes from
    /// and what "auto" came to.
    pub fn print(&self) -> String {
        let mut text = String::from("# The configuration in force.\n");
        let mut current = "";
        for key in &self.effective {
            let (section, word) = key.name.rsplit_once('.').expect("every key stands in a section");
            if section != current {
                line(&mut text, format_args!("\n[{section}]"));
                current = section;
            }
            let origin = match key.resolved {
                Some(number) => format!("{number} here; {}", key.origin),
                None => key.origin.to_string(),
            };
            match &key.found {
                Some(found) => line(&mut text, format_args!("{word} = {found} # {origin}")),
                None => line(&mut text, format_args!("# {word} = # unset; {}", Origin::Default)),
            }
        }
        text
    }
}

/// The operation that is on by default and off in the shipped file.
const LEFT_OUT: &str = "spin";

const HEAD: &str = "\
windlassd: every key, commented out, with its default. Uncomment what you change.

Durations are an integer and a unit (us, ms, s, m, h), sizes an integer and a unit (B, KiB, MiB, GiB).
Each key can also be set by the environment, WINDLASS__SECTION__KEY with _ for - and commas between the items of \
a list, and above that on the command line, --set SECTION.KEY=VALUE. Unknown keys are errors.

windlassd --config FILE --check         lists every problem of a file
windlassd --config FILE --print-config  shows what is in force, and where each value comes from
systemctl reload windlass               takes changes; keys that need a restart say so";

const DIFFERENCE: &str = "\
The one difference between this file and the built-in defaults: spin is off, because it burns CPU for whoever asks. \
It is for load tests.";

/// The text of `deploy/windlass.toml`: every key with what it does, its unit, range and default, as a comment to
/// uncomment; keys without a default end behind `=`. Uncommented stands the list of enabled operations alone, without
/// `spin`.
pub fn shipped(known: &Known<'_>) -> String {
    let schema = Schema::new(&known.declared);
    let mut text = comment(HEAD);
    let mut current = "";
    for key in &schema.keys {
        let (section, _) = key.parts();
        if section != current {
            text.push('\n');
            text.push_str(&comment(about(section, known)));
            line(&mut text, format_args!("[{section}]"));
            current = section;
        }
        describe(&mut text, key);
        if let Kind::Names(names) = &key.kind {
            let names = names.iter().filter(|name| **name != LEFT_OUT).map(|name| quoted(name));
            text.push_str(&comment(DIFFERENCE));
            let list = names.collect::<Vec<_>>().join(", ");
            line(&mut text, format_args!("{} = [{list}]", key.parts().1));
        }
    }
    text
}

fn about<'a>(section: &str, known: &'a Known<'_>) -> &'a str {
    let operation = || {
        let name = section.strip_prefix("operations.")?;
        known.declared.iter().find(|declared| declared.name == name).map(|declared| declared.about)
    };
    let section = SECTIONS.iter().find(|(name, _)| *name == section).map(|(_, about)| *about);
    section.or_else(operation).unwrap_or_default()
}

fn describe(text: &mut String, key: &Key) {
    let (_, word) = key.parts();
    let restart = if key.applies == Applies::AtRestart { " A change needs a restart." } else { "" };
    text.push('\n');
    text.push_str(&comment(&key.about));
    text.push_str(&comment(&format!("Takes {}.{restart}", key.kind.range())));
    match &key.default {
        Some(default) => line(text, format_args!("# {word} = {default}")),
        None => line(text, format_args!("# {word} =")),
    }
}

/// Paragraphs as comment lines of bounded width.
fn comment(paragraphs: &str) -> String {
    let mut text = String::new();
    for paragraph in paragraphs.lines() {
        let mut current = String::from("#");
        for word in paragraph.split(' ') {
            if current.len() > 1 && current.chars().count() + 1 + word.chars().count() > WIDTH {
                line(&mut text, format_args!("{current}"));
                current = String::from("#");
            }
            current.push(' ');
            current.push_str(word);
        }
        line(&mut text, format_args!("{}", current.trim_end()));
    }
    text
}

fn line(text: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(text, "{line}").expect("writing to memory does not fail");
}
