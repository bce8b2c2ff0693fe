//! Transforms and predicates: the chain between Kafka and a connector.
