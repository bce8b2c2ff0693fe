//! What the handlers work with.

use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::cluster::Cluster;
use super::errors::ApiError;
use super::security::Authenticator;
use crate::config::WorkerConfig;
use crate::config::validation::Validator;
use crate::herder::{ConnectorView, Herder, PluginCatalog, TaskRunner};
use crate::telemetry::Loggers;
use crate::worker::ConnectorOffsets;

/// Settings of the API.
#[derive(Debug, Clone)]
pub struct ApiSettings {
    /// `host:port` of this worker in statuses.
    pub worker_id: String,
    /// Larger bodies are refused.
    pub max_body: usize,
    /// After this time a request is answered with the operation that it waits for.
    pub request_timeout: Duration,
    /// Whether topics in use are recorded.
    pub topic_tracking: bool,
    /// Whether that record may be reset.
    pub topic_tracking_reset: bool,
}

impl ApiSettings {
    /// As the worker's properties have them.
    pub fn new(config: &WorkerConfig, worker_id: String) -> Self {
        Self {
            worker_id,
            max_body: config.rest_max_body,
            request_timeout: config.rest_request_timeout,
            topic_tracking: config.topic_tracking,
            topic_tracking_reset: config.topic_tracking_reset,
        }
    }
}

/// What the handlers work with.
pub struct Api {
    /// Commands, and the snapshot of everything.
    pub herder: Herder,
    /// Progress of tasks.
    pub runner: Arc<dyn TaskRunner>,
    /// The classes there are.
    pub plugins: Arc<dyn PluginCatalog>,
    /// Checks configs.
    pub validator: Arc<Validator>,
    /// Finds out who sends a request.
    pub authenticator: Arc<Authenticator>,
    /// Log levels.
    pub loggers: Loggers,
    /// The log's cluster id, once it is known.
    pub cluster_id: Arc<OnceLock<String>>,
    /// How far connectors are.
    pub offsets: Arc<dyn ConnectorOffsets>,
    /// The group that this worker is in; none: it is alone.
    pub cluster: Option<Cluster>,
    /// Settings.
    pub settings: ApiSettings,
}

impl Api {
    /// The connector, or Connect's 404.
    pub(super) fn connector(&self, name: &str) -> Result<Arc<ConnectorView>, ApiError> {
        self.herder.view().connector(name).ok_or_else(|| ApiError::not_found(format!("Connector {name} not found")))
    }

    /// Waits for `operation` no longer than a request may take.
    pub(super) async fn within<T, E: Into<ApiError>>(
        &self,
        operation: impl FnOnce() -> String,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, ApiError> {
        match tokio::time::timeout(self.settings.request_timeout, work).await {
            Ok(result) => result.map_err(Into::into),
            Err(_) => Err(ApiError::timeout(&operation(), self.settings.request_timeout)),
        }
    }

    /// As [`Self::within`], for work that blocks its thread.
    pub(super) async fn blocking<T: Send + 'static, E: Into<ApiError> + Send + 'static>(
        &self,
        operation: impl FnOnce() -> String,
        work: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, ApiError> {
        let work = async {
            match tokio::task::spawn_blocking(work).await {
                Ok(result) => result.map_err(Into::into),
                Err(error) => Err(ApiError::internal(format!("the request's work ended early: {error}"))),
            }
        };
        self.within(operation, work).await
    }
}
