//! `/connectors/{connector}/offsets`: how far a connector is.
//!
//! Offsets change only while the connector is stopped, and it does not start before that is done.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::api::Api;
use super::body::Body;
use super::errors::{ApiError, json};
use super::params::Name;
use crate::transform::registry;
use crate::worker::{OffsetChange, OffsetsError, PartitionOffset};

/// The offsets of a connector.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectorOffsets {
    /// One entry a partition.
    pub offsets: Option<Vec<ConnectorOffset>>,
}

/// The offset of a partition.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConnectorOffset {
    /// The source's own keys; of a sink `kafka_topic` and `kafka_partition`.
    pub partition: Option<Map<String, Value>>,
    /// The source's own keys; of a sink `kafka_offset`. Null in a change: forget the partition's offset.
    pub offset: Option<Map<String, Value>>,
}

/// An answer in words.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Message {
    /// The words.
    pub message: String,
}

pub(super) async fn list(State(api): State<Arc<Api>>, Name(name): Name) -> Result<Response, ApiError> {
    let connector = api.connector(&name)?;
    let offsets = api.offsets.clone();
    let operation = || format!("reading the offsets of connector {name}");
    let listed = api.blocking(operation, move || offsets.list(&connector)).await?;
    let shown = |offset: PartitionOffset| ConnectorOffset {
        partition: object(offset.partition),
        offset: object(offset.offset),
    };
    Ok(json(StatusCode::OK, &ConnectorOffsets { offsets: Some(listed.into_iter().map(shown).collect()) }))
}

pub(super) async fn alter(
    State(api): State<Arc<Api>>,
    Name(name): Name,
    Body(request): Body<ConnectorOffsets>,
) -> Result<Response, ApiError> {
    let given = request.offsets.unwrap_or_default();
    if given.is_empty() {
        return Err(ApiError::bad_request("Partitions / offsets need to be provided for an alter offsets request"));
    }
    let offset = |given: ConnectorOffset| PartitionOffset {
        partition: given.partition.map_or(Value::Null, Value::Object),
        offset: given.offset.map_or(Value::Null, Value::Object),
    };
    change(&api, &name, OffsetChange::Alter(given.into_iter().map(offset).collect())).await
}

pub(super) async fn reset(State(api): State<Arc<Api>>, Name(name): Name) -> Result<Response, ApiError> {
    change(&api, &name, OffsetChange::Reset).await
}

async fn change(api: &Arc<Api>, name: &str, change: OffsetChange) -> Result<Response, ApiError> {
    let done = if change == OffsetChange::Reset { "reset" } else { "altered" };
    let keeps_state = registry::keeps_state(&api.connector(name)?.config);
    let state = match change {
        _ if !keeps_state => "",
        OffsetChange::Reset => " The state of its transforms has been purged with them.",
        OffsetChange::Alter(_) => {
            " The state of its transforms is kept: what they have seen counts, and what is read again counts twice. To begin \
             without state, reset the offsets first."
        }
    };
    let offsets = api.offsets.clone();
    let work = api.herder.while_stopped(name, move |connector| offsets.change(connector, change));
    let outcome = api.within(|| format!("changing the offsets of connector {name}"), work).await?;
    let mut message = if outcome? {
        format!("The offsets for this connector have been {done} successfully")
    } else {
        format!(
            "The Connect framework-managed offsets for this connector have been {done} successfully. However, if this \
             connector manages offsets externally, they will need to be manually {done} in the system that the connector uses."
        )
    };
    message.push_str(state);
    Ok(json(StatusCode::OK, &Message { message }))
}

fn object(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(map) => Some(map),
        _ => None,
    }
}

impl From<OffsetsError> for ApiError {
    fn from(error: OffsetsError) -> Self {
        match error {
            OffsetsError::Refused(message) => Self::bad_request(message),
            OffsetsError::Failed(message) => Self::internal(message),
        }
    }
}
