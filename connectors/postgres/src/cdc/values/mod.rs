//! Values: from the server's texts into columns of Arrow, in Debezium's types.

mod build;
mod decimal;
mod interval;
mod kind;
mod text;
mod time;

pub(crate) use build::ValueBuilder;
pub(crate) use kind::{ColumnType, column_type};
pub(crate) use time::write_number;
