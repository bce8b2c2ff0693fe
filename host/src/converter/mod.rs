//! Converters: between the bytes in Kafka and the forms of a batch's columns.
