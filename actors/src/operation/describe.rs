//! A declaration as JSON, for the catalogue.

use serde_json::{Value, json};

use super::{Declaration, Resultant, Secrecy};

impl Declaration {
    /// The operation as the catalogue shows it.
    pub fn describe(&self) -> Value {
        let parameters: Vec<Value> = self
            .parameters
            .iter()
            .map(|parameter| {
                json!({
                    "name": parameter.name,
                    "type": parameter.kind.type_name(),
                    "range": parameter.kind.range(),
                    "default": parameter.default,
                    "required": parameter.required,
                    "about": parameter.about,
                })
            })
            .collect();
        let limits: Vec<Value> = self
            .limits
            .iter()
            .map(|limit| json!({ "name": limit.name, "value": limit.value, "about": limit.about }))
            .collect();
        let result = match self.result {
            Resultant::Text => json!("text"),
            Resultant::Binary => json!("binary"),
            Resultant::TextUnless { parameter, value } => {
                json!({ "text_unless": { "parameter": parameter, "value": value } })
            }
        };
        json!({
            "name": self.name,
            "about": self.about,
            "parameters": parameters,
            "limits": limits,
            "result": result,
            "pure": self.pure,
            "secret": self.secrecy == Secrecy::Secret,
            "stretch_max_ms": u64::try_from(self.stretch_max.as_millis()).unwrap_or(u64::MAX),
        })
    }
}
