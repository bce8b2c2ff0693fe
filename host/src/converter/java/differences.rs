//! Where this worker says something else than Kafka Connect on purpose; docs/compatibility.md lists the same.

use serde_json::Value;

use super::{Case, JSON, SIMPLE, STRING, unhex};

/// A difference: of the case, what Java says and what comes out here.
pub(super) struct Difference {
    /// What is better here.
    pub why: &'static str,
    /// Whether the case differs in this.
    pub is: fn(&Case, &Value, &Value) -> bool,
}

pub(super) const ALL: &[Difference] = &[
    Difference {
        why: "a null is a tombstone, whatever its schema",
        is: |case, _, here| case.what.ends_with("write") && here["hex"].is_null() && payload(case).is_null(),
    },
    Difference {
        why: "characters beyond the first 65,536 are written as UTF-8, not as two escapes",
        is: |_, java, here| {
            let read = |out: &Value| serde_json::from_slice::<Value>(&unhex(out["hex"].as_str()?)).ok();
            read(java).is_some_and(|java| java.to_string().contains('😀') && read(here) == Some(java))
        },
    },
    Difference {
        why: "what is no number and no text becomes base64, JSON or a number, not Java's toString",
        is: |case, java, here| {
            let schema = envelope(case)["schema"].clone();
            let kind = schema["type"].as_str().unwrap_or("none");
            let logical = schema["name"].as_str().is_some_and(|name| !name.ends_with(".Decimal"));
            let plain = kind == "none" && (payload(case).is_array() || payload(case).is_object());
            (case.class, case.what) == (STRING, "write")
                && java.get("error").is_none()
                && here.get("error").is_none()
                && (logical || plain || matches!(kind, "bytes" | "array" | "map" | "struct"))
        },
    },
    Difference {
        why: "a value that does not fit its type is refused, not replaced by 0, false, null or an empty list",
        is: |case, java, here| {
            case.class == JSON && case.what == "read" && java.get("error").is_none() && here.get("error").is_some()
        },
    },
    Difference {
        why: "NaN and the infinities are read as they were written, not as 0",
        is: |case, java, here| {
            let named = here["value"]["payload"].as_str();
            case.class == JSON
                && named.is_some_and(|text| matches!(text, "NaN" | "Infinity" | "-Infinity"))
                && java["value"]["payload"].as_f64() == Some(0.0)
        },
    },
    Difference {
        why: "a Decimal that is written as a number gets its schema's scale, instead of breaking what comes later",
        is: |_, java, here| {
            let error = java["error"].as_str().unwrap_or_default();
            error.contains("mismatching scale") && here.get("error").is_none()
        },
    },
    Difference {
        why: "a number of schemaless JSON is written if it fits",
        is: |case, java, here| {
            case.what == "write"
                && case.class.contains(".converters.")
                && envelope(case)["schema"].is_null()
                && java.get("error").is_some()
                && here.get("error").is_none()
        },
    },
    Difference {
        why: "text with something behind the number, and no day of the calendar, is text; JSON is read as JSON, and text in quotes is text",
        is: |case, _, here| {
            const TEXTS: [&str; 8] =
                ["1,2", "12:34", "2020-13-01", "[1,]", "{1:2}", "[1,null]", "[\"2020-01-01\"]", "{}"];
            (case.class, case.what) == (SIMPLE, "header-read")
                && here.get("error").is_none()
                && case.input.as_str().is_some_and(|text| TEXTS.contains(&text))
        },
    },
    Difference {
        why: "a list or map whose values have no type in common is schemaless, not of a schema that lacks its part",
        is: |case, java, here| {
            let lacks = |part: &str| java["value"]["schema"].get(part).is_some_and(Value::is_null);
            (case.class, case.what) == (SIMPLE, "header-read")
                && (lacks("items") || lacks("values"))
                && java["value"]["payload"] == here["value"]["payload"]
        },
    },
    Difference {
        why: "the text null is null, not a NullPointerException",
        is: |case, java, _| case.class == SIMPLE && case.input == "null" && java.get("error").is_some(),
    },
    Difference {
        why: "dates and times are written by their type, not by how long after 1970 they are; inside of other values they are numbers, and maps JSON",
        is: |case, _, here| {
            let schema = envelope(case)["schema"].clone();
            let known = schema["name"].as_str().is_some_and(|name| name.starts_with("org.apache.kafka.connect.data."));
            (case.class, case.what) == (SIMPLE, "header-write")
                && here.get("error").is_none()
                && (known && schema["type"] != "bytes" || matches!(schema["type"].as_str(), Some("map" | "struct")))
        },
    },
    Difference {
        why: "a header that is schemaless JSON has the type of its value",
        is: |case, java, here| {
            let schemaless = |out: &Value| match out.get("value") {
                Some(value) => value.clone(),
                None => serde_json::from_slice(&unhex(out["hex"].as_str().unwrap_or_default())).unwrap_or_default(),
            };
            let (java, here) = (schemaless(java), schemaless(here));
            case.class == JSON
                && case.what.starts_with("header")
                && java["schema"].is_null()
                && java["payload"] == here["payload"]
        },
    },
];

fn envelope(case: &Case) -> Value {
    case.input.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

fn payload(case: &Case) -> Value {
    envelope(case)["payload"].clone()
}
