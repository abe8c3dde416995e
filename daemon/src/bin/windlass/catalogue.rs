//! What the daemon says about its operations. Members that are missing count as unknown.

use serde_json::Value;
use windlass_protocol::client::pipelined::Client;
use windlass_protocol::client::{Addresses, SUBJECT_CATALOGUE};

use crate::exit::{Exit, Problem};

/// The answer to a catalogue Query.
pub(crate) struct Catalogue(Value);

/// One operation of it.
pub(crate) struct Operation<'a>(pub(crate) &'a Value);

impl Catalogue {
    /// Asks the daemon.
    pub(crate) async fn fetch(client: &Client, addresses: &Addresses) -> Result<Self, Problem> {
        json(client, addresses, SUBJECT_CATALOGUE, "the catalogue").await.map(Self)
    }

    pub(crate) fn operations(&self) -> impl Iterator<Item = Operation<'_>> {
        list(&self.0, "operations").iter().map(Operation)
    }

    /// The operation of this name, or the names there are.
    pub(crate) fn find(&self, name: &str) -> Result<Operation<'_>, Problem> {
        self.operations().find(|operation| operation.name() == name).ok_or_else(|| {
            let names: Vec<_> = self.operations().map(|operation| operation.name().to_owned()).collect();
            let message = format!("the daemon has no operation '{name}'; it has {}", names.join(", "));
            Problem::new(Exit::UnknownRequest, message)
        })
    }
}

impl<'a> Operation<'a> {
    pub(crate) fn name(&self) -> &'a str {
        text(self.0, "name")
    }

    pub(crate) fn is_pure(&self) -> bool {
        self.0["pure"] == true
    }

    /// Whether the result with these parameters is text.
    pub(crate) fn is_text(&self, parameters: &[(String, String)]) -> bool {
        let result = &self.0["result"];
        let Some(unless) = result.get("text_unless") else { return result == "text" };
        let parameter = text(unless, "parameter");
        let given = parameters.iter().find(|(name, _)| name == parameter).map(|(_, value)| value.as_str());
        given.or_else(|| self.default_of(parameter)) != unless["value"].as_str()
    }

    /// The default value of a parameter.
    pub(crate) fn default_of(&self, parameter: &str) -> Option<&'a str> {
        list(self.0, "parameters")
            .iter()
            .find(|declared| text(declared, "name") == parameter)
            .and_then(|declared| declared["default"].as_str())
    }
}

/// A text member, empty where it is missing.
pub(crate) fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    value[member].as_str().unwrap_or_default()
}

/// A list member, empty where it is missing.
pub(crate) fn list<'a>(value: &'a Value, member: &str) -> &'a [Value] {
    value[member].as_array().map_or(&[], Vec::as_slice)
}

/// Asks a Query and reads its JSON.
pub(crate) async fn json(
    client: &Client,
    addresses: &Addresses,
    subject: u16,
    what: &str,
) -> Result<Value, Problem> {
    let bytes = client
        .query(subject)
        .await
        .map_err(|error| Problem::from_call(&format!("asking {addresses} for {what}"), &error))?;
    serde_json::from_slice(&bytes).map_err(|error| {
        Problem::new(Exit::Internal, format!("{what} of the daemon at {addresses} is not JSON: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// W-52
    #[test]
    fn whether_a_result_is_text_follows_the_parameter_or_its_default() {
        let given = |value: &str| [("encoding".to_owned(), value.to_owned())];
        let hash = serde_json::json!({
            "name": "hash",
            "of_a_later_version": [1, 2, 3],
            "parameters": [{"name": "encoding", "default": "hex"}],
            "result": {"text_unless": {"parameter": "encoding", "value": "raw"}},
        });
        let operation = Operation(&hash);
        assert!(operation.is_text(&[]));
        assert!(operation.is_text(&given("base64")));
        assert!(!operation.is_text(&given("raw")));
        assert!(Operation(&serde_json::json!({"result": "text"})).is_text(&[]));
        assert!(!Operation(&serde_json::json!({"result": "binary"})).is_text(&[]));
        assert!(!Operation(&serde_json::json!({})).is_text(&[]));
    }
}
