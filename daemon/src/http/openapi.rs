//! What the door can be asked, as OpenAPI 3.1, made from the same declarations that requests are checked against.

use std::time::Duration;

use serde_json::{Map, Value, json};
use windlass_actors::operation::{Declaration, Parameter, ParameterKind, Resultant, Secrecy};
use windlass_actors::settings::Settings;

use super::call::{BINARY, TEXT};
use super::pattern;
use super::problem::PROBLEM_JSON;

/// Every status that is not a result, and when it is answered.
const PROBLEMS: [(&str, &str); 13] = [
    ("400", "The request, a parameter, a deadline or a priority cannot be read or is out of its range."),
    ("403", "A page of a foreign origin asked."),
    ("404", "No such resource, or no such operation is enabled."),
    ("405", "The resource has no such method; `Allow` names those it has."),
    ("408", "The head or the body came too slowly."),
    ("413", "The input, the output or the work would be larger than a limit."),
    ("414", "The target of the request is too long."),
    ("421", "The `Host` is none of this daemon's names."),
    ("422", "The input is not what the operation reads."),
    ("429", "Too much runs or waits at the moment; `Retry-After` says when to ask again."),
    ("500", "A bug in the daemon; its log says more."),
    ("503", "The daemon is shutting down, or has no place for another connection."),
    ("504", "The deadline passed, or could not have been kept."),
];

/// The document, as JSON.
pub(super) fn document(settings: &Settings) -> Vec<u8> {
    let mut paths = Map::new();
    paths.insert(
        "/v1/operations".to_owned(),
        get("operations", "The enabled operations", "Names, parameters, limits, results."),
    );
    paths.insert("/v1/openapi.json".to_owned(), get("openapi", "This document", "OpenAPI 3.1."));
    for entry in settings.catalogue.entries() {
        let declaration = entry.operation.declaration();
        paths
            .insert(format!("/v1/call/{}", declaration.name), json!({ "post": call(declaration, settings) }));
    }
    let document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Windlass",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Work in, result out, before the deadline",
            "description": "Body in, body out. Every error is a problem document (RFC 9457) with the code that the \
                            native protocol has, too. Any parameter may stand in a header `Windlass-Param-KEY` \
                            instead of the query, which keeps secrets out of URLs; given in both places, it is \
                            given twice. In the query, `+` is a space and `%2B` a plus.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "headers": headers(),
            "schemas": { "Problem": problem_schema() },
            "responses": problems(),
        },
    });
    document.to_string().into_bytes()
}

fn get(id: &str, summary: &str, description: &str) -> Value {
    let result = json!({
        "description": description,
        "headers": reference_headers(&["Windlass-Request"]),
        "content": { "application/json": { "schema": { "type": "object" } } },
    });
    json!({ "get": {
        "operationId": id,
        "summary": summary,
        "responses": responses(result, &["400", "403", "405", "408", "414", "421", "500", "503"]),
    } })
}

fn call(declaration: &Declaration, settings: &Settings) -> Value {
    let mut parameters: Vec<Value> = declaration.parameters.iter().map(parameter).collect();
    parameters.push(json!({
        "name": "Windlass-Deadline",
        "in": "header",
        "description": "How long the answer is waited for, from the reading of the request on. What cannot be done in \
                        that time is refused with 504 at once; more than the server's longest is that.",
        "schema": duration_schema(Duration::from_nanos(1), Duration::MAX),
        "example": "2s",
    }));
    parameters.push(json!({
        "name": "Windlass-Priority",
        "in": "header",
        "description": "Batch requests wait behind interactive ones, within their share of the CPU time.",
        "schema": { "type": "string", "enum": ["interactive", "batch"], "default": "interactive" },
    }));
    let mut content = Map::new();
    let text = (TEXT, json!({ "schema": { "type": "string" } }));
    let binary = (BINARY, json!({}));
    let kinds = match declaration.result {
        Resultant::Text => vec![text],
        Resultant::Binary => vec![binary],
        Resultant::TextUnless { .. } => vec![text, binary],
    };
    content.extend(kinds.into_iter().map(|(kind, media)| (kind.to_owned(), media)));
    let result = json!({
        "description": "The result, exactly; a text has no newline at its end.",
        "headers": reference_headers(&["Windlass-Request", "Server-Timing"]),
        "content": content,
    });
    let secret = match declaration.secrecy {
        Secrecy::Open => "",
        Secrecy::Secret => " It is a secret, and never logged.",
    };
    let every: Vec<&str> = PROBLEMS.iter().map(|(status, _)| *status).collect();
    json!({
        "operationId": declaration.name,
        "summary": declaration.about,
        "parameters": parameters,
        "requestBody": {
            "description": format!(
                "The input, at most {} bytes, of known length or in chunks.{secret}",
                settings.limits.body_bytes_max
            ),
            "content": { BINARY: {} },
        },
        "responses": responses(result, &every),
    })
}

fn parameter(parameter: &Parameter) -> Value {
    let mut schema = match &parameter.kind {
        ParameterKind::Choice(words) => json!({ "type": "string", "enum": words }),
        ParameterKind::Integer { min, max } => {
            json!({ "type": "integer", "minimum": min, "maximum": max })
        }
        ParameterKind::Duration { min, max } => duration_schema(*min, *max),
        ParameterKind::Size { min, max } => {
            json!({ "type": "string", "pattern": pattern::sizes(&(*min..=*max)) })
        }
        ParameterKind::Text { bytes_max } => json!({ "type": "string", "maxLength": bytes_max }),
    };
    if let Some(default) = &parameter.default {
        schema["default"] = match (&parameter.kind, default.parse::<i64>()) {
            (ParameterKind::Integer { .. }, Ok(number)) => number.into(),
            _ => default.as_str().into(),
        };
    }
    json!({
        "name": parameter.name,
        "in": "query",
        "required": parameter.required,
        "description": format!("{}; {}", parameter.about, parameter.kind.range()),
        "schema": schema,
    })
}

fn duration_schema(min: Duration, max: Duration) -> Value {
    let nanoseconds = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    json!({ "type": "string", "pattern": pattern::durations(&(nanoseconds(min)..=nanoseconds(max))) })
}

fn headers() -> Value {
    json!({
        "Windlass-Request": {
            "description": "Names the request as the daemon's log does: connection and request.",
            "required": true,
            "schema": { "type": "string", "pattern": "^[0-9]+-[0-9]+$" },
        },
        "Server-Timing": {
            "description": "How long the request waited for a worker and ran, milliseconds.",
            "schema": { "type": "string" },
        },
        "Retry-After": {
            "description": "When to ask again, seconds.",
            "schema": { "type": "integer", "minimum": 0 },
        },
        "Allow": { "description": "The methods of the resource.", "schema": { "type": "string" } },
    })
}

fn reference_headers(names: &[&str]) -> Value {
    let reference =
        |name: &&str| ((*name).to_owned(), json!({ "$ref": format!("#/components/headers/{name}") }));
    Value::Object(names.iter().map(reference).collect())
}

fn responses(result: Value, problems: &[&str]) -> Value {
    let mut responses = Map::new();
    responses.insert("200".to_owned(), result);
    for status in problems {
        let reference = json!({ "$ref": format!("#/components/responses/Problem{status}") });
        responses.insert((*status).to_owned(), reference);
    }
    Value::Object(responses)
}

fn problems() -> Value {
    let mut responses = Map::new();
    for (status, description) in PROBLEMS {
        let headers = match status {
            "429" | "503" => vec!["Retry-After"],
            "405" => vec!["Allow"],
            _ => vec![],
        };
        let schema = json!({ "$ref": "#/components/schemas/Problem" });
        let response = json!({
            "description": description,
            "headers": reference_headers(&headers),
            "content": { PROBLEM_JSON: { "schema": schema } },
        });
        responses.insert(format!("Problem{status}"), response);
    }
    Value::Object(responses)
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "RFC 9457.",
        "required": ["type", "title", "status", "detail", "code", "name", "retry_safe"],
        "properties": {
            "type": { "type": "string" },
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string", "description": "What was found and what is allowed." },
            "code": { "type": "integer", "description": "Of the native protocol; an unknown one is read by its ten." },
            "name": { "type": "string", "description": "Of the code." },
            "retry_safe": {
                "type": "boolean",
                "description": "Whether the operation has certainly not been started.",
            },
            "retry_after_ms": { "type": "integer", "description": "When to ask again, milliseconds." },
            "request": { "type": "string", "description": "As in `Windlass-Request`." },
        },
    })
}
