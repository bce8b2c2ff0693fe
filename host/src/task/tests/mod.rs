//! The loops against scripted neighbours: what is committed, and what is not, whatever happens in between.

mod fakes;
mod prepared;
mod sink;
mod source;
