//! The vault passes the suites of every sink, and of those that prepare their transactions.

use std::fs;

use tempfile::TempDir;
use tributary_plugin_vault::{Store, Vault};
use tributary_sdk::Config;
use tributary_testkit::suite::SinkSubject;
use tributary_testkit::{prepared_sink_suite, sink_suite};

struct Subject(TempDir);

impl Subject {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }
}

impl SinkSubject for Subject {
    type Connector = Vault;

    fn prepare(&mut self) -> Config {
        self.0 = tempfile::tempdir().expect("a folder");
        [("name", "vault"), ("folder", &self.0.path().display().to_string())].into_iter().collect()
    }

    fn stored(&mut self) -> Vec<String> {
        let store = Store::open(self.0.path()).expect("the store can be opened");
        assert_eq!(store.wrongs(), Vec::<String>::new());
        store.lines().expect("the store can be read")
    }

    fn set_broken(&mut self, broken: bool) -> bool {
        let away = self.0.path().join("away");
        if broken {
            fs::write(away, "").expect("a file")
        } else {
            fs::remove_file(away).expect("it is there")
        }
        true
    }
}

sink_suite!(vault, Subject::new());
prepared_sink_suite!(prepared, Subject::new());
