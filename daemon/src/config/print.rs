//! The configuration as text that reads back: what is in force, and the reference file with every key.

use std::fmt::Write;

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

/// The reference file: every key with what it does, its unit, range and default, as a comment to uncomment. Keys
/// without a default end behind `=`. `shipped` are lines that stand uncommented below the key of that name.
pub fn reference(known: &Known<'_>, head: &str, shipped: &[(&str, &str)]) -> String {
    let schema = Schema::new(&known.declared);
    let mut text = comment(head);
    let mut current = "";
    for key in &schema.keys {
        let (section, _) = key.parts();
        if section != current {
            text.push('\n');
            let about = SECTIONS.iter().find(|(name, _)| *name == section).map(|(_, about)| *about);
            let about = about.or_else(|| {
                let name = section.strip_prefix("operations.")?;
                known.declared.iter().find(|declared| declared.name == name).map(|declared| declared.about)
            });
            text.push_str(&comment(about.unwrap_or_default()));
            line(&mut text, format_args!("[{section}]"));
            current = section;
        }
        describe(&mut text, key);
        let shipped = shipped.iter().filter(|(name, _)| *name == key.name);
        shipped.for_each(|(_, shipped)| line(&mut text, format_args!("{shipped}")));
    }
    text
}

fn describe(text: &mut String, key: &Key) {
    let (_, word) = key.parts();
    let restart = if key.applies == Applies::AtRestart { " Changes need a restart." } else { "" };
    let range = key.kind.range();
    let mut letters = range.chars();
    let range = letters.next().map(|first| first.to_uppercase().chain(letters).collect::<String>());
    text.push('\n');
    text.push_str(&comment(&format!("{} {}.{restart}", key.about, range.unwrap_or_default())));
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
