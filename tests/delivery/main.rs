//! From file to file through a log: nothing is lost, whatever breaks on the way.

mod bad_record;
mod broker_away;
mod disk_full;
mod identical;
mod kills;
