//! The order in which Java walks through a `HashMap` or `HashSet` of strings.
//!
//! Some of Kafka's answers and messages list keys or values in that order. It is the same in every JVM, so it can be the
//! same here; names whose hashes collide keep the order in which they came, as in Java.

/// The names in the order of a `java.util.HashMap` that they were put into one after the other.
pub fn hash_order<'a>(names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<&str> = names.into_iter().collect();
    let mut buckets: u32 = 16;
    // A table grows when it is fuller than three quarters.
    while names.len() as u64 * 4 > u64::from(buckets) * 3 {
        buckets *= 2;
    }
    names.sort_by_key(|name| {
        let hash = name.encode_utf16().fold(0u32, |hash, unit| hash.wrapping_mul(31).wrapping_add(unit.into()));
        (hash ^ (hash >> 16)) & (buckets - 1)
    });
    names
}

#[cfg(test)]
mod tests {
    use super::hash_order;

    /// What `new HashSet<>(List.of(…))` printed on Java 17.
    #[test]
    fn is_javas() {
        assert_eq!(hash_order(["BASE64", "NUMERIC"]), ["NUMERIC", "BASE64"]);
        assert_eq!(hash_order(["REQUESTED", "REQUIRED"]), ["REQUIRED", "REQUESTED"]);
        assert_eq!(hash_order(["POLL", "INTERVAL", "CONNECTOR"]), ["INTERVAL", "POLL", "CONNECTOR"]);
        let keys = ["linger.ms", "acks", "compression.type", "batch.size", "my.own"];
        assert_eq!(hash_order(keys), ["compression.type", "acks", "batch.size", "my.own", "linger.ms"]);
    }
}
