//! The OpenAPI document, made from the table of routes and the shapes themselves.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::api::Api;
use super::endpoint::{Described, Endpoint};
use super::routes::endpoints;

pub(super) async fn document(State(_api): State<Arc<Api>>) -> Response {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    let body = DOCUMENT.get_or_init(|| build(&endpoints()).to_string());
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.as_str()).into_response()
}

/// The document of these operations.
pub(super) fn build(endpoints: &[Endpoint]) -> Value {
    let mut schemas: BTreeMap<String, Value> = BTreeMap::new();
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for endpoint in endpoints {
        let method = endpoint.method.as_str().to_ascii_lowercase();
        let operation = operation(endpoint, &mut schemas);
        paths.entry(endpoint.path).or_default().insert(method, operation);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Tributary",
            "description": "Kafka Connect's REST API, with additions.",
            "version": env!("CARGO_PKG_VERSION"),
            "license": { "name": "Apache-2.0", "identifier": "Apache-2.0" },
        },
        "paths": paths,
        "components": { "schemas": schemas },
    })
}

fn operation(endpoint: &Endpoint, schemas: &mut BTreeMap<String, Value>) -> Value {
    let mut content = |described: &Described| {
        for (name, schema) in &described.named {
            schemas.insert(name.clone(), value(schema));
        }
        json!({ "application/json": { "schema": value(&described.schema) } })
    };
    let mut responses = Map::new();
    for (status, description, body) in &endpoint.responses {
        let mut response = json!({ "description": description });
        if let Some(body) = body {
            response["content"] = content(body);
        }
        responses.insert(status.to_string(), response);
    }
    let mut operation = json!({
        "tags": [endpoint.tag],
        "summary": endpoint.summary,
        "operationId": operation_id(endpoint),
        "parameters": parameters(endpoint),
        "responses": responses,
    });
    if let Some(body) = &endpoint.body {
        operation["requestBody"] = json!({ "required": true, "content": content(body) });
    }
    operation
}

fn parameters(endpoint: &Endpoint) -> Vec<Value> {
    let names = endpoint.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let path = names.map(|name| {
        let schema =
            if name == "task" { json!({ "type": "integer", "minimum": 0 }) } else { json!({ "type": "string" }) };
        json!({ "name": name, "in": "path", "required": true, "schema": schema })
    });
    let query = endpoint.query.iter().map(|param| {
        let one = json!({ "type": param.kind });
        let schema = if param.repeated { json!({ "type": "array", "items": one }) } else { one };
        json!({
            "name": param.name, "in": "query", "required": false, "description": param.description, "schema": schema,
        })
    });
    path.chain(query).collect()
}

/// `get-connectors-connector-status`.
fn operation_id(endpoint: &Endpoint) -> String {
    let path = endpoint.path.replace(['{', '}'], "").replace(['/', '.'], "-");
    format!("{}{}", endpoint.method.as_str().to_ascii_lowercase(), path.trim_end_matches('-'))
}

fn value(schema: &impl serde::Serialize) -> Value {
    serde_json::to_value(schema).expect("a schema is valid JSON")
}
