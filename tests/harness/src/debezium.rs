//! Debezium's PostgreSQL connector, from Maven Central, as Kafka Connect loads it.

use std::path::PathBuf;
use std::process::Command;

use crate::{Context, Error, Result, cache, jars};

/// The version, which is that of `debezium` in `jars.lock`.
pub const VERSION: &str = "3.4.0.Final";
const SHA256: &str = "df62945c143811dcac2522fac1944a25ad4677839d3ae42cc12d180bc6764425";

/// The directory for Connect's `plugin.path`, downloaded if it is missing.
pub fn postgres_plugin() -> Result<PathBuf> {
    let place = cache::entry(&format!("debezium-postgres-{VERSION}-{}", &SHA256[..12]), |dir| {
        let archive = dir.join("plugin.tar.gz");
        let name = "debezium-connector-postgres";
        jars::fetch_archive(&format!("io/debezium/{name}/{VERSION}/{name}-{VERSION}-plugin.tar.gz"), SHA256, &archive)?;
        let output =
            Command::new("tar").args(["xzf", "plugin.tar.gz"]).current_dir(dir).output().context("cannot run tar")?;
        if !output.status.success() {
            return Err(Error::new(format!("tar: {}", String::from_utf8_lossy(&output.stderr).trim())));
        }
        std::fs::remove_file(archive)?;
        Ok(())
    })?;
    Ok(place)
}
