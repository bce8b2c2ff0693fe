//! Debezium's connectors, from Maven Central, as Kafka Connect loads them.

use std::path::PathBuf;
use std::process::Command;

use crate::{Context, Error, Result, cache, jars};

/// The version of the PostgreSQL connector, which is that of `debezium` in `jars.lock`.
pub const VERSION: &str = "3.4.0.Final";
const SHA256: &str = "df62945c143811dcac2522fac1944a25ad4677839d3ae42cc12d180bc6764425";

/// The version of the JDBC sink: a newer one, which may write a batch with UNNEST, as 3.4.0 does not.
pub const JDBC_VERSION: &str = "3.6.0.Final";
const JDBC_SHA256: &str = "c23af8d416f0f801ffb0271b1a8fd9b5360ff8d66b0dd650e066bb56ecfddc05";

/// The PostgreSQL connector's directory for Connect's `plugin.path`, downloaded if it is missing.
pub fn postgres_plugin() -> Result<PathBuf> {
    plugin("postgres", VERSION, SHA256)
}

/// The JDBC sink's.
pub fn jdbc_plugin() -> Result<PathBuf> {
    plugin("jdbc", JDBC_VERSION, JDBC_SHA256)
}

fn plugin(kind: &str, version: &str, digest: &str) -> Result<PathBuf> {
    cache::entry(&format!("debezium-{kind}-{version}-{}", &digest[..12]), |dir| {
        let archive = dir.join("plugin.tar.gz");
        let name = format!("debezium-connector-{kind}");
        jars::fetch_archive(&format!("io/debezium/{name}/{version}/{name}-{version}-plugin.tar.gz"), digest, &archive)?;
        let output =
            Command::new("tar").args(["xzf", "plugin.tar.gz"]).current_dir(dir).output().context("cannot run tar")?;
        if !output.status.success() {
            return Err(Error::new(format!("tar: {}", String::from_utf8_lossy(&output.stderr).trim())));
        }
        std::fs::remove_file(archive)?;
        Ok(())
    })
}
