//! A connector's own checks of a config, with a deadline.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use tributary_sdk::Config;
use tributary_sdk::source::ExactlyOnceSupport;

use super::environment::Environment;
use crate::plugin::Kind;
use crate::task::control::TaskControl;
use crate::task::errors::TaskError;
use crate::task::services::InstanceServices;
use crate::task::stream;
use crate::transform::registry;

/// `(key, message)` for each problem; an error when the checks could not be made, or took longer than `plugin.call.timeout.ms`.
pub fn validate(environment: &Arc<Environment>, config: &Config) -> Result<Vec<(String, String)>, String> {
    let (answer, answered) = sync_channel(1);
    let control = Arc::new(TaskControl::default());
    let name = config.get("name").unwrap_or("validated").to_owned();
    let (asked, config, stop) = (environment.clone(), config.clone(), control.clone());
    let ask = move || {
        let answer = asked.resolve([&config], &stop).and_then(|[config]| problems(&asked, &config, &name, &stop));
        answer.map_err(|error| error.without(stop.secrets()))
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

/// What the connector has to say of its config, in its own words, and of two keys of sources, in Connect's.
fn problems(
    environment: &Environment,
    config: &Config,
    name: &str,
    control: &Arc<TaskControl>,
) -> Result<Vec<(String, String)>, TaskError> {
    let (offsets, state) = (environment.offsets.clone(), environment.state.clone());
    let services = InstanceServices::new(name, None, control.clone(), offsets, state);
    let mut connector = environment.create_connector(config, Arc::new(services), control)?;
    control.set_canceller(connector.canceller());
    let mut problems = connector.validate(config).map_err(|error| TaskError::of_call("validate", error))?;
    if environment.class(config)?.info().class == stream::CLASS {
        problems.extend(environment.refused_clusters(name, config)?);
    }
    if environment.class(config)?.info().kind != Kind::Source {
        if registry::keeps_state(config)
            && matches!(connector.exactly_once_support(config), Ok(Some(ExactlyOnceSupport::Prepared)))
        {
            problems.push(("transforms".to_owned(), PREPARED_BEHIND_STATE.to_owned()));
        }
        return Ok(problems);
    }
    let asks = |key: &str, value: &str| config.get(key).is_some_and(|text| text.trim().eq_ignore_ascii_case(value));
    if asks(EXACTLY_ONCE, "required") {
        let message = match connector.exactly_once_support(config) {
            Ok(Some(ExactlyOnceSupport::Supported)) => None,
            // Only sinks prepare transactions.
            Ok(Some(ExactlyOnceSupport::Unsupported | ExactlyOnceSupport::Prepared)) => Some(UNSUPPORTED.to_owned()),
            Ok(None) => Some(NOT_TOLD.to_owned()),
            Err(error) => Some(format!("An unexpected error occurred during validation: {error}")),
        };
        problems.extend(message.map(|message| (EXACTLY_ONCE.to_owned(), message)));
    }
    if asks(BOUNDARY, "connector") {
        let message = match connector.can_define_transaction_boundaries(config) {
            Ok(true) => None,
            Ok(false) => Some(NO_BOUNDARIES.to_owned()),
            Err(error) => Some(format!("An unexpected error occurred during validation: {error}")),
        };
        problems.extend(message.map(|message| (BOUNDARY.to_owned(), message)));
    }
    Ok(problems)
}

/// Why a sink that prepares its transactions does not run behind state.
pub(super) const PREPARED_BEHIND_STATE: &str = "the connector prepares its transactions, and such a sink is not run behind transforms that keep \
     state: let a connector with KafkaSink and these transforms write their results to a topic, and this one read it";
const EXACTLY_ONCE: &str = "exactly.once.support";
const BOUNDARY: &str = "transaction.boundary";
const UNSUPPORTED: &str = "The connector does not support exactly-once semantics with the provided configuration.";
const NOT_TOLD: &str = "The connector does not say whether it supports exactly-once semantics; its documentation may. \
     With exactly.once.support=requested it is taken without that check.";
const NO_BOUNDARIES: &str = "The connector does not support connector-defined transaction boundaries with the given configuration. \
     Please reconfigure it to use a different transaction boundary definition.";
