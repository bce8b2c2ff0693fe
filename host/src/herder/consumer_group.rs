//! The consumer group of a sink.

use tributary_sdk::Config;

/// The consumer group of a sink's tasks.
pub(super) fn consumer_group(connector: &str, config: &Config) -> String {
    let group = config.get("consumer.override.group.id").map(str::trim);
    group.map_or_else(|| format!("connect-{connector}"), str::to_owned)
}
