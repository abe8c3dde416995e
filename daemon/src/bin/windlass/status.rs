//! `windlass status`: what runs and waits. The daemon decides what it tells; this only lays it out.

use serde_json::Value;
use windlass_protocol::client::{Address, SUBJECT_STATUS};

use crate::catalogue;
use crate::exit::{Exit, Problem};
use crate::output::{print, print_bytes};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print the daemon's JSON as it is
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(address: &Address, arguments: &Arguments) -> Result<Exit, Problem> {
    let client = crate::connect(&address.clone().into(), crate::options()).await?;
    if arguments.json {
        let attempted = format!("asking {address} for the status");
        let json = client.query(SUBJECT_STATUS).await;
        print_bytes(&json.map_err(|error| Problem::from_call(&attempted, &error))?)?;
        print(format_args!("\n"))?;
        return Ok(Exit::Done);
    }
    let mut status = catalogue::json(&client, &address.clone().into(), SUBJECT_STATUS, "the status").await?;
    // For programs; `windlass top` makes percentiles of them.
    if let Some(members) = status.as_object_mut() {
        members.remove("histograms");
    }
    let mut page = String::new();
    members(&mut page, &status, 0);
    print(format_args!("{page}"))?;
    Ok(Exit::Done)
}

/// One line per plain member, a heading and deeper lines per structured one.
fn members(page: &mut String, value: &Value, depth: usize) {
    let Value::Object(object) = value else { return line(page, depth, &inline(value)) };
    // Plain members first: a value below a nested block would seem to belong to it.
    let is_short = |value: &Value| inline_fits(value);
    let width = object
        .iter()
        .filter(|(_, value)| is_short(value))
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0);
    for (name, value) in object.iter().filter(|(_, value)| is_short(value)) {
        line(page, depth, &format!("{:width$}  {}", name.replace('_', " "), inline(value)));
    }
    for (name, value) in object.iter().filter(|(_, value)| !is_short(value)) {
        line(page, depth, &name.replace('_', " "));
        match value {
            Value::Array(elements) => {
                elements.iter().for_each(|element| line(page, depth + 1, &inline(element)))
            }
            other => members(page, other, depth + 1),
        }
    }
}

/// Whether a value fits on the line of its name: no structure within structure.
fn inline_fits(value: &Value) -> bool {
    match value {
        Value::Object(object) => object.values().all(|inner| !inner.is_object() && !inner.is_array()),
        Value::Array(elements) => elements.iter().all(|inner| !inner.is_object() && !inner.is_array()),
        _ => true,
    }
}

fn inline(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.chars().filter(|c| !c.is_control()).collect(),
        Value::Array(elements) => elements.iter().map(inline).collect::<Vec<_>>().join(", "),
        Value::Object(object) => {
            let part = |(name, value): (&String, &Value)| match value {
                Value::Object(_) | Value::Array(_) => {
                    format!("{}: ({})", name.replace('_', " "), inline(value))
                }
                plain => format!("{} {}", name.replace('_', " "), inline(plain)),
            };
            object.iter().map(part).collect::<Vec<_>>().join(" · ")
        }
        plain => plain.to_string(),
    }
}

fn line(page: &mut String, depth: usize, text: &str) {
    page.push_str(&"  ".repeat(depth));
    page.push_str(text.trim_end());
    page.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_laid_out_whatever_it_contains() {
        let status = serde_json::json!({
            "server": "windlassd", "queue": {"waiting": 2, "held_bytes": 10},
            "workers": [{"index": 0, "running": null, "jobs": {"echo": 12}}],
            "operations": {"echo": {"done": 12, "failed": 1}},
        });
        let mut page = String::new();
        members(&mut page, &status, 0);
        let expected = "queue   held bytes 10 · waiting 2\nserver  windlassd\noperations\n  echo  done 12 · failed 1\n\
                        workers\n  index 0 · jobs: (echo 12) · running -\n";
        assert_eq!(page, expected);
    }
}
