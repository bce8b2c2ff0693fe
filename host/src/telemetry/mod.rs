//! What the worker tells about itself: log lines now, metrics later.
