//! From file to file through a log: nothing is lost, whatever breaks on the way.

mod bad_record;
mod broker_away;
mod chains;
mod dead_letters;
mod dead_letters_as_connect;
mod disk_full;
mod identical;
mod kills;
mod letters;
mod none_lost;
