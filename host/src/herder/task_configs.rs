//! What a connector offers as its task configs, made fit to be stored.

use tributary_sdk::Config;

/// `tasks.max`.
pub(super) fn max_tasks(config: &Config) -> usize {
    config.parsed("tasks.max", 1).unwrap_or(1)
}

/// What Kafka Connect's task configs name a connector's tasks by: `FileStreamSourceTask` of `FileStreamSourceConnector`.
pub const TASK_CLASS: &str = "task.class";

/// The class of a connector's tasks, as Connect's convention names it.
pub fn task_class(connector: &str) -> String {
    format!("{}Task", connector.strip_suffix("Connector").unwrap_or(connector))
}

/// The task configs to store: not more than allowed, and with references where the connector's config has them, so that no
/// secret is stored or shown.
pub(super) fn offered(config: &Config, mut configs: Vec<Config>) -> Result<Vec<Config>, String> {
    let (count, max) = (configs.len(), max_tasks(config));
    let enforce = config.get("tasks.max.enforce").is_none_or(|enforce| enforce.trim() != "false");
    if count > max && enforce {
        return Err(format!(
            "the connector made {count} task configs, more than tasks.max={max} allows; raise tasks.max, or set tasks.max.enforce=false"
        ));
    }
    for task in &mut configs {
        for (key, reference) in config.0.iter().filter(|(_, value)| value.contains("${")) {
            if let Some(value) = task.0.get_mut(key) {
                value.clone_from(reference);
            }
        }
    }
    Ok(configs)
}
