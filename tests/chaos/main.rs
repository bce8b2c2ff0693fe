//! What may happen between the worker and the broker, and must not lose a line.

mod network;
