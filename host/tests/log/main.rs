//! One behaviour suite for every implementation of the log.

mod behaviour;
mod embedded_file;
mod kafka_outage;
mod support;
mod transactions;

/// Runs every behaviour on one implementation.
macro_rules! behaviours {
    ($($name:ident),* $(,)?) => {
        mod kafka {
            $(#[test] fn $name() { crate::behaviour::$name(&crate::support::kafka()); })*
        }
        mod embedded {
            $(#[test] fn $name() { crate::behaviour::$name(&crate::support::embedded()); })*
        }
    };
}

behaviours!(
    what_is_written_is_read,
    records_of_all_shapes_come_back,
    explicit_partitions_and_murmur2,
    null_keys_are_spread,
    tokens_complete_after_all_their_rows,
    tokens_of_one_partition_complete_in_order,
    a_record_too_large_fails_alone,
    topics_appear_when_written_to,
    big_batches_keep_their_order,
    a_poll_keeps_to_its_bounds,
    a_group_resumes_where_it_committed,
    partitions_move_between_two_members,
    pause_and_seek_deliver_nothing_stale,
    partitions_keep_their_places_while_others_come_and_go,
    a_pattern_finds_topics_that_come_later,
    admin_tells_and_changes,
    offsets_carry_metadata_of_their_owner,
    a_reader_reads_from_given_offsets,
    lag_is_what_is_left,
    commands_write_and_read_lines,
);
