//! The behaviour suite that every connector passes.

use tributary_connector_generator::GeneratorSource;
use tributary_sdk::Config;
use tributary_testkit::{SourceSubject, source_suite};

/// Makes as many records as asked for; none is asked for as one so rare that it does not come.
struct Generator {
    format: &'static str,
}

impl SourceSubject for Generator {
    type Connector = GeneratorSource;

    fn prepare(&mut self, records: usize) -> Config {
        let mut config = Config::from_iter([("name", "suite"), ("format", self.format), ("batch.size", "11")]);
        match records {
            0 => config.set("rate", "0.000001"),
            _ => {
                config.set("rate", "0");
                config.set("max.records", records.to_string());
            }
        }
        config
    }
}

source_suite!(json, Generator { format: "json" });
source_suite!(structured, Generator { format: "structured" });
source_suite!(text, Generator { format: "text" });
