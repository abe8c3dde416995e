//! `windlass operations`: what the daemon can do.

use std::fmt::Write;

use serde_json::Value;
use windlass_protocol::client::{Addresses, SUBJECT_CATALOGUE};

use crate::catalogue::{Catalogue, Operation, list, text};
use crate::exit::{Exit, Problem};
use crate::output::{print, print_bytes};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Print the daemon's JSON as it is
    #[arg(long)]
    json: bool,
}

pub(crate) async fn run(addresses: &Addresses, arguments: &Arguments) -> Result<Exit, Problem> {
    let client = crate::connect(addresses, crate::options()).await?;
    if arguments.json {
        let attempted = format!("asking {addresses} for the catalogue");
        let json = client.query(SUBJECT_CATALOGUE).await;
        print_bytes(&json.map_err(|error| Problem::from_call(&attempted, &error))?)?;
        print(format_args!("\n"))?;
        return Ok(Exit::Done);
    }
    let catalogue = Catalogue::fetch(&client, addresses).await?;
    let parts: Vec<_> = catalogue.operations().map(|operation| describe(&operation)).collect();
    print(format_args!("{}", parts.join("\n")))?;
    Ok(Exit::Done)
}

fn describe(operation: &Operation<'_>) -> String {
    let mut page = format!("{}  {}\n", operation.name(), text(operation.0, "about"));
    let parameters: Vec<[String; 4]> = list(operation.0, "parameters").iter().map(parameter).collect();
    let limits = list(operation.0, "limits").iter().map(|limit| {
        [
            text(limit, "name").to_owned(),
            shown(&limit["value"]),
            String::new(),
            text(limit, "about").to_owned(),
        ]
    });
    table(&mut page, "parameters", &parameters);
    table(&mut page, "limits", &limits.collect::<Vec<_>>());
    let mut facts = vec![if operation.is_pure() { "pure" } else { "not pure" }.to_owned()];
    if operation.0["secret"] == true {
        facts.push("secret input".to_owned());
    }
    if let Some(stretch) = operation.0["stretch_max_ms"].as_u64() {
        facts.push(format!("stops within {stretch} ms"));
    }
    // Writing to a String does not fail.
    let _written = writeln!(page, "  {}", facts.join(" · "));
    page
}

fn parameter(declared: &Value) -> [String; 4] {
    let range = match text(declared, "range") {
        "" => text(declared, "type"),
        range => range,
    };
    let default = match (&declared["default"], declared["required"] == true) {
        (_, true) => "required".to_owned(),
        (Value::Null, false) => "optional".to_owned(),
        (default, false) => format!("default {}", shown(default)),
    };
    [text(declared, "name").to_owned(), range.to_owned(), default, text(declared, "about").to_owned()]
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn table(page: &mut String, title: &str, rows: &[[String; 4]]) {
    if rows.is_empty() {
        return;
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let [name, range, default] = [0, 1, 2].map(width);
    let _written = writeln!(page, "  {title}");
    for row in rows {
        let line = format!("    {:name$}  {:range$}  {:default$}  {}", row[0], row[1], row[2], row[3]);
        let _written = writeln!(page, "{}", line.trim_end());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_shows_parameters_limits_and_facts() {
        let hash = serde_json::json!({
            "name": "hash", "about": "digest of the input",
            "parameters": [{"name": "algorithm", "type": "choice", "range": "blake3, sha256", "default": "blake3",
                            "required": false, "about": "which digest"}],
            "limits": [{"name": "input", "value": "64MiB", "about": "largest input"}],
            "pure": true, "stretch_max_ms": 10,
        });
        assert_eq!(
            describe(&Operation(&hash)),
            "hash  digest of the input\n  parameters\n    algorithm  blake3, sha256  default blake3  which digest\n  \
             limits\n    input  64MiB    largest input\n  pure · stops within 10 ms\n"
        );
    }

    #[test]
    fn a_catalogue_with_missing_members_is_still_shown() {
        assert_eq!(describe(&Operation(&serde_json::json!({"name": "echo"}))), "echo  \n  not pure\n");
    }
}
