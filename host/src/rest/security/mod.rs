//! Who may use the API: authentication (basic, bearer, client certificates), roles by connector, and an audit log.
//!
//! Without `rest.authentication.methods` everybody who reaches the API may do everything, which is why listeners are on the
//! loopback interface then (see [`crate::config::Listener`]). With them every request is somebody's, except `/health` without
//! parameters, which load balancers ask, and the requests that workers sign among themselves.

mod authenticator;
mod basic;
mod bearer;
mod delegation;
mod guard;
mod role;
mod watched_file;

pub use authenticator::{AuthenticationSettings, Authenticator};
pub use bearer::BearerSettings;
pub(super) use delegation::{ON_BEHALF_OF, on_behalf_of};
pub(super) use guard::{Guard, forbidden, guard, identify};
pub use role::{Identity, Role};
