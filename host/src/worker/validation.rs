//! A connector's own checks of a config, with a deadline.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use tributary_sdk::Config;

use super::environment::Environment;
use crate::task::control::TaskControl;
use crate::task::services::InstanceServices;

/// `(key, message)` for each problem; an error when the checks could not be made, or took longer than `plugin.call.timeout.ms`.
pub fn validate(environment: &Arc<Environment>, config: &Config) -> Result<Vec<(String, String)>, String> {
    let (answer, answered) = sync_channel(1);
    let control = Arc::new(TaskControl::default());
    let name = config.get("name").unwrap_or("validated").to_owned();
    let (asked, config, stop) = (environment.clone(), config.clone(), control.clone());
    let ask = move || {
        let config = asked.resolve(&config)?;
        let services = InstanceServices::new(&name, None, stop.clone(), asked.offsets.clone(), asked.state.clone());
        let mut connector = asked.create_connector(&config, Arc::new(services))?;
        stop.set_canceller(connector.canceller());
        connector.validate(&config).map_err(|error| crate::task::errors::TaskError::of_call("validate", error))
    };
    std::thread::Builder::new()
        .name("validate".to_owned())
        .spawn(move || _ = answer.send(ask()))
        .map_err(|error| format!("cannot start a thread: {error}"))?;
    let timeout = environment.config.plugin_call_timeout;
    match answered.recv_timeout(timeout) {
        Ok(answer) => answer.map_err(|error| error.message),
        Err(_) => {
            control.stop();
            Err(format!("the connector's validate did not answer within plugin.call.timeout.ms ({timeout:?})"))
        }
    }
}
