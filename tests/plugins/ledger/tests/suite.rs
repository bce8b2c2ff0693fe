//! The ledger passes the suites of every sink, and of those that write exactly once.

use tempfile::TempDir;
use tributary_plugin_ledger::{Ledger, Store};
use tributary_sdk::Config;
use tributary_testkit::suite::SinkSubject;
use tributary_testkit::{exactly_once_sink_suite, sink_suite};

struct Subject(TempDir);

impl Subject {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self) -> String {
        self.0.path().join("ledger.db").display().to_string()
    }
}

impl SinkSubject for Subject {
    type Connector = Ledger;

    fn prepare(&mut self) -> Config {
        self.0 = tempfile::tempdir().expect("a folder");
        [("name", "ledger"), ("file", &self.file())].into_iter().collect()
    }

    fn stored(&mut self) -> Vec<String> {
        Store::open(&self.file()).and_then(|store| store.lines()).expect("the database can be read")
    }

    fn is_idempotent(&self) -> bool {
        true
    }
}

sink_suite!(ledger, Subject::new());
exactly_once_sink_suite!(exactly_once, Subject::new());
