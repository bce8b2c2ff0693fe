//! The Kafka client settings of the raw runs and the plain loop: those that the worker uses by itself.

/// Settings of every producer here.
pub const PRODUCER: &[(&str, &str)] = &[
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("partitioner", "murmur2_random"),
    ("linger.ms", "1"),
    ("batch.size", "1000000"),
    ("batch.num.messages", "10000"),
    ("queue.buffering.max.kbytes", "16384"),
    ("queue.buffering.max.messages", "200000"),
    ("message.timeout.ms", "2147483647"),
    ("max.in.flight", "5"),
];

/// Settings of every consumer here.
pub const CONSUMER: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "false"),
    ("auto.offset.reset", "earliest"),
    ("partition.assignment.strategy", "range"),
    ("fetch.queue.backoff.ms", "10"),
    ("queued.max.messages.kbytes", "32768"),
    ("queued.min.messages", "50000"),
];

/// One line for the report.
pub fn show(settings: &[(&str, &str)]) -> String {
    settings.iter().map(|(key, value)| format!("`{key}={value}`")).collect::<Vec<_>>().join(" ")
}
