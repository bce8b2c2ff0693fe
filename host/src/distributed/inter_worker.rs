//! `inter.worker.*`: how requests between workers are signed. Kafka Connect's keys and defaults.

use std::time::Duration;

use tributary_sdk::Config;

use crate::rest::{Signing, is_known_algorithm};

const DEFAULT: &str = "HmacSHA256";

/// The settings.
#[derive(Debug, Clone)]
pub struct InterWorker {
    /// Which algorithms are used and taken.
    pub signing: Signing,
    /// What keys are made for.
    pub key_algorithm: String,
    /// Their size in bits; none: what the algorithm has by itself.
    pub key_bits: Option<usize>,
    /// How old a key gets.
    pub key_ttl: Duration,
}

impl InterWorker {
    /// Reads the worker's properties; the error lists everything that is wrong.
    pub fn new(properties: &Config) -> Result<Self, Vec<String>> {
        let mut errors = Vec::new();
        let text = |key: &str| properties.get(key).map(str::trim).filter(|text| !text.is_empty());
        let algorithm = |key: &str| text(key).unwrap_or(DEFAULT).to_owned();
        let mut number = |key: &str, default: u64| match text(key).map(str::parse) {
            None => default,
            Some(Ok(number)) => number,
            Some(Err(_)) => {
                errors.push(format!(
                    "invalid value {} for configuration {key}: write a whole number",
                    text(key).unwrap_or_default()
                ));
                default
            }
        };
        let ttl = number("inter.worker.key.ttl.ms", 3_600_000);
        let bits = number("inter.worker.key.size", 0) as usize;
        let accepted: Vec<String> =
            properties.list("inter.worker.verification.algorithms").into_iter().map(str::to_owned).collect();
        let signing = Signing {
            algorithm: algorithm("inter.worker.signature.algorithm"),
            accepted: if accepted.is_empty() { vec![DEFAULT.to_owned()] } else { accepted },
        };
        let key_algorithm = algorithm("inter.worker.key.generation.algorithm");
        for (key, name) in [
            ("inter.worker.signature.algorithm", &signing.algorithm),
            ("inter.worker.key.generation.algorithm", &key_algorithm),
        ]
        .into_iter()
        .chain(signing.accepted.iter().map(|name| ("inter.worker.verification.algorithms", name)))
        {
            if !is_known_algorithm(name) {
                errors.push(format!(
                    "invalid value {name} for configuration {key}: write HmacSHA256, HmacSHA384, HmacSHA512 or HmacSHA1"
                ));
            }
        }
        if !signing.accepted.contains(&signing.algorithm) {
            errors.push(format!(
                "inter.worker.signature.algorithm={} is not among inter.worker.verification.algorithms={}: workers would refuse each other's requests",
                signing.algorithm,
                signing.accepted.join(",")
            ));
        }
        let settings = Self {
            signing,
            key_algorithm,
            key_bits: (bits > 0).then_some(bits),
            key_ttl: Duration::from_millis(ttl.max(1)),
        };
        if errors.is_empty() { Ok(settings) } else { Err(errors) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_connects_and_mistakes_are_told() {
        let settings = InterWorker::new(&Config::default()).unwrap();
        assert_eq!((settings.signing.algorithm.as_str(), settings.key_ttl), (DEFAULT, Duration::from_secs(3600)));
        let of = |pairs: &[(&str, &str)]| InterWorker::new(&pairs.iter().copied().collect()).unwrap_err().join("\n");
        let errors = of(&[
            ("inter.worker.signature.algorithm", "HmacSHA512"),
            ("inter.worker.key.generation.algorithm", "HmacMD5"),
            ("inter.worker.key.ttl.ms", "soon"),
        ]);
        for part in ["refuse each other's", "HmacMD5", "inter.worker.key.ttl.ms: write a whole number"] {
            assert!(errors.contains(part), "{part} is not in:\n{errors}");
        }
    }
}
