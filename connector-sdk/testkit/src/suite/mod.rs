//! The behaviour that every connector promises, as tests.
//!
//! Call [`source_suite!`](crate::source_suite) or [`sink_suite!`](crate::sink_suite) once in the connector's tests, with an
//! expression that makes a fresh subject. Each behaviour is a `#[test]`; a failure says which promise was broken.

mod common;
pub mod exactly_once;
pub mod prepared;
pub mod sink;
mod sinks;
pub mod source;

pub use sink::SinkSubject;
pub use source::SourceSubject;

/// All tests of [`source`](crate::suite::source): `source_suite!(file_source, FileSubject::new());`
#[macro_export]
macro_rules! source_suite {
    ($name:ident, $subject:expr) => {
        $crate::suite_tests!(source, $name, $subject; reads_everything, resumes_from_offsets, at_least_once_under_kills,
            backpressure, bad_record, idle_poll_returns, cancel_returns_promptly, stop_is_idempotent, secrets_are_not_shown,
            config_def_is_sound, required_keys_are_required);
    };
}

/// All tests of [`sink`](crate::suite::sink): `sink_suite!(file_sink, FileSubject::new());`
#[macro_export]
macro_rules! sink_suite {
    ($name:ident, $subject:expr) => {
        $crate::suite_tests!(sink, $name, $subject; writes_everything, committed_is_safe, at_least_once_under_kills,
            backpressure, bad_record, every_form_is_survived, cancel_returns_promptly, stop_is_idempotent,
            secrets_are_not_shown, config_def_is_sound, required_keys_are_required);
    };
}

/// All tests of [`exactly_once`](crate::suite::exactly_once), for sinks that keep their offsets in their own store, beside those of
/// [`sink_suite!`](crate::sink_suite).
#[macro_export]
macro_rules! exactly_once_sink_suite {
    ($name:ident, $subject:expr) => {
        $crate::suite_tests!(exactly_once, $name, $subject; goes_on_from_its_own_offsets, exactly_once_under_kills,
            former_tasks_write_nothing, passed_records_are_not_skipped, changed_offsets_are_followed, outboxes_are_followed);
    };
}

/// All tests of [`prepared`](crate::suite::prepared), for sinks that prepare their transactions, beside those of
/// [`sink_suite!`](crate::sink_suite).
#[macro_export]
macro_rules! prepared_sink_suite {
    ($name:ident, $subject:expr) => {
        $crate::suite_tests!(prepared, $name, $subject; says_what_it_is, prepared_survives_a_kill, orphans_are_aborted,
            aborted_is_gone, commits_are_idempotent, later_epochs_are_left_alone, closing_drops_what_is_not_prepared,
            exactly_once_under_kills, outages_pass);
    };
}

#[doc(hidden)]
#[macro_export]
macro_rules! suite_tests {
    ($kind:ident, $name:ident, $subject:expr; $($test:ident),+ $(,)?) => {
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            $(
                #[test]
                fn $test() {
                    $crate::suite::$kind::$test(&mut $subject);
                }
            )+
        }
    };
}
